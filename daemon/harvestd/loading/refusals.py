"""Why a schema.sql is refused, in words for whoever wrote it: what, which line, and the mend."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harvestd.catalog.discover import RESERVED
from harvestd.database.pool import LOST
from harvestd.errors import SchemaRefused
from harvestd.loading.ddl import DdlStatement, cut_statements, find_line, makes_schema
from harvestd.loading.inspection import Finding
from harvestd.loading.mends import Difference
from harvestd.terms import NAME

STATEMENT_SECONDS = 300
"""One statement of a schema.sql takes no longer: an index on a large table may need minutes."""
LOCK_SECONDS = 5
"""While a statement waits for a table, every load of it waits behind the statement."""
FINDINGS_SHOWN_MAX = 10

ENDS_TRANSACTION = frozenset(
    ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE"]
)
WRITES = frozenset(["INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "TRUNCATE", "WITH", "VALUES"])
GUARD_STATES = ("HD001", "HD003")
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
UNSAFE_NEW_ENUM_VALUE = "55P04"
INVALID_TABLE_DEFINITION = "42P16"
ABOUT_VALUES = ("22", "P0")
"""Classes whose messages say what a row holds: wrong data, and what RAISE or ASSERT was given."""
QUOTED = re.compile(r'"([^"]*)"|(\d+)')
AGAIN = "correct it: it is tried again at the next tick; the tables are as they were"


def check_name(source: str) -> None:
    """Raise SchemaRefused for a data source whose name cannot be that of a schema."""
    if NAME.fullmatch(source) and source not in RESERVED and not source.startswith("pg_"):
        return
    raise SchemaRefused(
        f"no data source can be called {source!r}",
        why=f"its schema has the same name: {NAME.pattern}, not pg_* and none of "
        + ", ".join(sorted(RESERVED)),
        next_step="rename its folder",
        path=f"{source}/schema.sql",
    )


def checked_statements(source: str, schema_sql: str) -> tuple[DdlStatement, ...]:
    """The statements to run.  Raises: SchemaRefused for what is no DDL by its first word."""
    unprintable = re.search("[\x00\ud800-\udfff]", schema_sql)
    if unprintable:
        line = 1 + schema_sql.count("\n", 0, unprintable.start())
        raise _refused(source, "it holds a character that PostgreSQL cannot store", line=line)
    kept = []
    for statement in cut_statements(schema_sql):
        if statement.verb in ENDS_TRANSACTION:
            raise left_transaction(source, statement)
        if statement.verb in WRITES:
            raise _writes(source, statement)
        if not makes_schema(statement, source):
            kept.append(statement)
    return tuple(kept)


def failed(
    source: str, error: BaseException, statement: DdlStatement | None, *, sent_before: int = 0
) -> SchemaRefused:
    """Our error for the server's: its message, unless it may quote a row; never its detail.

    ``sent_before``: characters that the server was sent before the statement.
    """
    sqlstate = str(getattr(error, "sqlstate", None) or "")
    line = statement.line if statement else None
    position = getattr(error, "position", None)
    if statement is not None and position is not None:
        line = statement.line_at(int(position) - sent_before)
    if sqlstate in GUARD_STATES:
        return _writes(source, statement)
    what = type(error).__name__.removesuffix("Error")
    if not isinstance(error, LOST) and _may_be_told(error, statement):
        what = str(getattr(error, "message", None) or what)
    where = f" in: {_begin_of(statement)}" if statement else ""
    why, next_step = f"PostgreSQL refused it ({sqlstate}){where}", AGAIN
    if isinstance(error, LOST):
        why = f"the connection was lost, or took more than {STATEMENT_SECONDS} s{where}"
    elif sqlstate == LOCK_NOT_AVAILABLE:
        why = f"a table was in use for {LOCK_SECONDS} s and more{where}"
        next_step = "nothing to do if it passes: it is tried again at the next tick"
    elif statement is not None and statement.tokens[:2] == ("CREATE", "SCHEMA"):
        next_step = f"leave it out, or write CREATE SCHEMA IF NOT EXISTS {source}: it is there"
    elif sqlstate == UNSAFE_NEW_ENUM_VALUE:
        next_step = "let the file be applied with the new value and without its use first"
    elif sqlstate == INVALID_TABLE_DEFINITION and statement and "VIEW" in statement.tokens[:4]:
        next_step = "its columns changed: write DROP VIEW IF EXISTS above it"
    elif sqlstate == QUERY_CANCELED:
        why = f"it took more than {STATEMENT_SECONDS} s, or was cancelled{where}"
    refused = _refused(source, what, why=why, next_step=next_step, line=line)
    refused.in_use = sqlstate == LOCK_NOT_AVAILABLE
    return refused


def _may_be_told(error: BaseException, statement: DdlStatement | None) -> bool:
    """Whether the server's message is about the file, and quotes nothing that was computed.

    The owner of the tables can read them, and RAISE takes any class and text; so a message is
    told that points into the file, or that names only what stands there.
    """
    sqlstate, message, context, position = (
        str(getattr(error, name, None) or "")
        for name in ("sqlstate", "message", "context", "position")
    )
    if context:  # it comes from inside a DO, or from SQL that was put together there
        return False
    if position:
        return True
    if sqlstate.startswith(ABOUT_VALUES):
        return False
    text = None if statement is None else statement.text.lower()
    return text is None or all(
        word.lower() in text for found in QUOTED.findall(message) for word in found
    )


def left_transaction(source: str, statement: DdlStatement | None = None) -> SchemaRefused:
    """The refusal of what would leave the one transaction, or has left it."""
    return _refused(
        source,
        "it begins or ends a transaction"
        + (f": {_begin_of(statement)}" if statement is not None else ""),
        why="the file runs in one transaction, with its inspection: all of it or nothing",
        next_step="leave BEGIN, COMMIT, ROLLBACK, SAVEPOINT and PREPARE out",
        line=None if statement is None else statement.line,
    )


def _writes(source: str, statement: DdlStatement | None) -> SchemaRefused:
    return _refused(
        source,
        "it writes rows" + (f": {_begin_of(statement)}" if statement is not None else ""),
        why="schema.sql is DDL only, since rows belong to tenants",
        next_step="give a new column its value by DEFAULT; write rows in a script",
        line=None if statement is None else statement.line,
    )


def all_found(
    source: str, findings: Sequence[Finding], statements: Sequence[DdlStatement]
) -> SchemaRefused:
    """One error for all that was found; its line is that of the first one found in the file."""
    shown = findings[:FINDINGS_SHOWN_MAX]
    lines = [find_line(statements, finding.words) for finding in shown]
    what = [
        finding.what + (f" (line {line})" if line is not None else "")
        for finding, line in zip(shown, lines, strict=True)
    ]
    more = len(findings) - len(shown)
    return _refused(
        source,
        "; ".join(what) + (f"; and {more} more" if more else ""),
        why="all tenants' rows lie in the same tables, and the server must hold them apart",
        next_step="; ".join(dict.fromkeys(finding.mend for finding in shown)),
        line=next((line for line in lines if line is not None), None),
    )


def differs(
    source: str, differences: Sequence[Difference], statements: Sequence[DdlStatement]
) -> SchemaRefused:
    """One error for all that is not as the file says, with the DDL that makes it so."""
    shown = differences[:FINDINGS_SHOWN_MAX]
    more = len(differences) - len(shown)
    lines = [find_line(statements, one.words) for one in shown]
    ddl = "; ".join(dict.fromkeys(one.mend for one in shown if one.mend))
    by_hand = dict.fromkeys(one.advice for one in shown if one.advice)
    return _refused(
        source,
        "; ".join(one.what for one in shown) + (f"; and {more} more" if more else ""),
        why="the file says otherwise, but changes nothing where it is there already, as CREATE "
        "... IF NOT EXISTS does",
        next_step="; ".join(
            (*([f"add to the file, below what made it: {ddl}"] if ddl else []), *by_hand)
        ),
        line=next((line for line in lines if line is not None), None),
    )


def altered(
    source: str, differences: Sequence[Difference], statements: Sequence[DdlStatement]
) -> SchemaRefused:
    """The same of a file that was applied, so that somebody else changed what it made."""
    told = differs(source, differences, statements)
    told.why = "the file was applied as it is, and somebody changed this since"
    told.next_step += "; with any change in it the file is applied again"
    return told


def fails_on_empty(refused: SchemaRefused) -> SchemaRefused:
    """The same refusal, of a file that runs on the tables there are but not without them."""
    told = SchemaRefused(
        f"on an empty schema, as a new database has: {refused.what}",
        why=refused.why,
        next_step="the file must make everything by itself, in this order; ALTER and DROP take "
        "IF EXISTS and IF NOT EXISTS",
        path=refused.path,
        line=refused.line,
    )
    told.in_use = refused.in_use
    return told


def _refused(
    source: str, what: str, *, why: str = "", next_step: str = AGAIN, line: int | None = None
) -> SchemaRefused:
    path = f"{source}/schema.sql"
    return SchemaRefused(what, why=why, next_step=next_step, path=path, line=line)


def _begin_of(statement: DdlStatement) -> str:
    """The statement's beginning on one line, enough to find it by."""
    text = " ".join(statement.text.split())
    return text if len(text) <= 80 else text[:77] + "..."
