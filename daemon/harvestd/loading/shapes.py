"""What the tables of a data source look like, read once and kept until a schema changes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from harvestd.database.pool import Database
from harvestd.errors import WriteRefused
from harvestd.loading.columns import Column
from harvestd.loading.writes import TableShape, upsert_statement

STATEMENTS_MAX = 2_000


class Shapes:
    """Columns and keys by (schema, table), and the upsert statements built from them."""

    def __init__(self, database: Database) -> None:
        self._line = database.line("shapes")
        self._shapes: dict[tuple[str, str], TableShape] = {}
        self._upserts: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], str] = {}

    def forget(self) -> None:
        """A schema was applied: read everything anew."""
        self._shapes.clear()
        self._upserts.clear()

    async def of(self, schema: str, table: str) -> TableShape:
        """The shape of ``schema.table``.  Raises: WriteRefused, when there is no such table."""
        shape = self._shapes.get((schema, table))
        if shape is None:
            columns = await self._line.fetch("read_table_shape", schema, table)
            if not columns:
                raise await self._missing(schema, table)
            keys = await self._line.fetch("read_unique_keys", schema, table)
            shape = TableShape(
                schema=schema,
                table=table,
                columns={row["name"]: Column(**dict(row)) for row in columns},
                unique_keys=tuple(tuple(row["columns"]) for row in keys),
            )
            self._shapes[(schema, table)] = shape
        return shape

    async def _missing(self, schema: str, table: str) -> WriteRefused:
        names = [row["name"] for row in await self._line.fetch("list_table_names", schema)]
        meant = difflib.get_close_matches(table, names, n=1)
        return WriteRefused(
            f"there is no table {schema}.{table}"
            + (f": did you mean {meant[0]}?" if meant else ""),
            why="the source's schema.sql does not make it, or was refused",
            next_step=f"call it {meant[0]}, or add {table} to schema.sql"
            if meant
            else "add it to schema.sql; the log says why a schema was refused",
        )

    def upsert(self, shape: TableShape, columns: tuple[str, ...], key: Sequence[str]) -> str:
        """The statement that upserts these columns by this key.  Raises: WriteRefused."""
        wanted = (shape.schema, shape.table, columns, tuple(key))
        statement = self._upserts.get(wanted)
        if statement is None:
            statement = upsert_statement(shape, columns, key)
            if len(self._upserts) >= STATEMENTS_MAX:
                self._upserts.clear()
            self._upserts[wanted] = statement
        return statement
