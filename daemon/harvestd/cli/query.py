"""`harvestd sql`: a look at the data, with a next step that fits the mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harvestd.cli.names import LISTED_MAX, nearest, overview_of
from harvestd.cli.output import UsageError, note, print_json, print_rows
from harvestd.cli.reach import ask_database
from harvestd.database.pool import Database, closing
from harvestd.database.reading import Answer, read_as_reader, tables_to_read
from harvestd.database.roles import Roles
from harvestd.errors import DatabaseError, Unreachable
from harvestd.service.status import Status

ROWS_MAX = 1_000
NO_SUCH_TABLE = "42P01"
NEXT_STEPS = {
    "42601": "correct the SQL there; one statement at a time, without a semicolon between two",
    "42703": 'list the columns: harvestd sql "SELECT table_schema, table_name, column_name FROM '
    "information_schema.columns WHERE table_name = 'TABLE'\"",
    "25006": "harvestd sql only looks; what changes data is the work of scripts and of psql",
    "57014": "narrow it (WHERE, LIMIT, less to sort), or ask it with psql, which has no limit",
}
MISNAMED = re.compile(r'relation "([^"]+)" does not exist')


def ask_query(query: str, *, as_json: bool) -> int:
    """One query over the data; the exit code."""
    if not query.strip():
        raise UsageError(
            "the query is empty",
            why="perhaps the shell took the quotes away",
            next_step='harvestd sql "SELECT ..."',
        )

    async def ask(database: Database) -> Answer:
        roles = Roles((await overview_of(Status(database))).hex)
        async with closing(await database.connect("sql")) as connection:
            try:
                return await read_as_reader(connection, roles, query, rows_max=ROWS_MAX)
            except Unreachable:
                raise
            except DatabaseError as error:
                tables = [] if connection.is_closed() else await tables_to_read(connection, roles)
                error.next_step = next_step_after(error, tables)
                raise

    answer = ask_database(ask)
    if as_json:
        rows: list[Any] = [list(row) for row in answer.rows]
        print_json({"columns": answer.columns, "rows": rows, "cut": answer.cut})
    else:
        print_rows(answer.columns, answer.rows)
    if answer.cut:
        note(f"only the first {ROWS_MAX:,} rows are shown")
    return 0


def next_step_after(error: DatabaseError, tables: Sequence[str]) -> str:
    """What fits a refused query; ``tables`` are those that can be read."""
    code = error.sqlstate or ""
    there = ", ".join(tables[:LISTED_MAX]) or "none yet; harvestd run makes them"
    if code == NO_SUCH_TABLE:
        found = MISNAMED.search(error.what)
        named = found[1] if found else ""
        bare = {one.partition(".")[2]: one for one in tables}
        near = nearest(named, tables) or bare.get(nearest(named, bare) or "")
        said = f"did you mean {near}? " if near else ""
        return f"{said}Tables that can be read: {there}"
    if code == "42501":
        return f"only what data sources have loaded can be read here: {there}"
    # The server's own hint, if it had one, knows the query.
    return error.next_step or NEXT_STEPS.get(code, "correct the query, or ask it with psql")
