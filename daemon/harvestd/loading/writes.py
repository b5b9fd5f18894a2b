"""What one upsert sends: its statement, its rows in bounded batches, and their arrays.

Nothing here talks to the database.  The facade asks for ``batches`` of the author's rows, for the
``arrays_for`` each batch, and sends these with the ``upsert_statement`` of the same columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from harvestd.errors import WriteRefused
from harvestd.loading.blame import refused_row
from harvestd.loading.bulk import plainly_fine
from harvestd.loading.columns import Column, Convert
from harvestd.loading.parameters import parameter, sent
from harvestd.loading.rows import Row
from harvestd.loading.values import converter, selected
from harvestd.terms import NAME

TENANT_ID = "tenant_id"
FRAMEWORK_COLUMNS = ("written_at", "deleted_at")
RAW = "raw"
"""The column that takes what a table has no column for; see `unknown.py`."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """The columns of a table by name, in its order, and the columns of each of its unique keys."""

    schema: str
    table: str
    columns: Mapping[str, Column]
    unique_keys: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class Group(NamedTuple):
    """The rows of a batch that have the same columns, as what is sent for each of these."""

    columns: tuple[str, ...]
    rows: int
    arrays: list[object]


def checked_name(name: str, kind: str) -> str:
    """``name``, when a table or a column (``kind`` says which) may be called so.

    An allow-list: PostgreSQL would cut a longer one in silence and so make one name of two.
    Raises: WriteRefused.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WriteRefused(
            f"{str(name)[:40]!r} is no name of a {kind}",
            why="names are small letters, digits and _, at most 63, and begin with a letter",
            next_step=f"rename the {kind} in schema.sql and in the script",
        )
    return name


def quoted(name: str) -> str:
    """``name`` as an identifier of SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def upsert_statement(shape: TableShape, columns: Sequence[str], key: Sequence[str]) -> str:
    """The upsert of rows that have exactly ``columns`` into ``shape``, found again by ``key``.

    ``$1`` is the tenant id, ``$2`` onwards one array for each column, in the table's order.  It
    answers one row: inserted, updated; the rest of the rows were there already, unchanged.

    Raises: WriteRefused, when the table has no such key, or a column may not be written.
    """
    full_key = _full_key(shape, key)
    ordered = _checked_columns(shape, columns, full_key)
    table = f"{quoted(shape.schema)}.{quoted(shape.table)}"
    # In the order of the key: two that write the same rows wait for each other, never in a circle.
    places = [str(number) for number, name in enumerate(ordered, start=2) if name in full_key]
    in_order = f"\n    ORDER BY {', '.join(places)}" if places else ""
    return f"""\
WITH written AS (
    INSERT INTO {table} AS stored ({listed(TENANT_ID, *ordered)})
    {select_arrays(shape, ordered)}{in_order}
    ON CONFLICT ({listed(*full_key)}) {_on_conflict(shape, ordered, full_key)}
    RETURNING (stored.xmax = 0) AS fresh
)
SELECT count(*) FILTER (WHERE fresh) AS inserted, count(*) FILTER (WHERE NOT fresh) AS updated
FROM written"""  # noqa: S608 - names are quoted, types are the catalog's


def _on_conflict(shape: TableShape, columns: Sequence[str], full_key: Sequence[str]) -> str:
    """What happens to a row that is there: nothing, if it would stay the same.

    The images are compared (``*<>``): every type has one, json and xml too, and a change that
    the type's own equality overlooks is written, such as another case in citext.
    """
    changing = [name for name in columns if name not in full_key]
    settings = [f"{quoted(name)} = excluded.{quoted(name)}" for name in changing]
    conditions = []
    if changing:
        images = (
            f"ROW({', '.join(f'{side}.{quoted(name)}' for name in changing)})::record"
            for side in ("stored", "excluded")
        )
        conditions.append(" *<> ".join(images))
    if "deleted_at" in shape.columns:
        settings.append("deleted_at = NULL")
        conditions.append("stored.deleted_at IS NOT NULL")
    if not settings:
        return "DO NOTHING"
    if "written_at" in shape.columns:
        settings.append("written_at = statement_timestamp()")
    return f"DO UPDATE\n    SET {', '.join(settings)}\n    WHERE {' OR '.join(conditions)}"


def append_statement(shape: TableShape, columns: Sequence[str]) -> str:
    """The insert of rows that have exactly ``columns``; parameters as in `upsert_statement`."""
    return (
        f"INSERT INTO {quoted(shape.schema)}.{quoted(shape.table)}"
        f" ({listed(TENANT_ID, *columns)})\n    {select_arrays(shape, columns)}"
    )


def select_arrays(shape: TableShape, columns: Sequence[str]) -> str:
    """The SELECT of the tenant id, ``$1``, and of ``columns``, whose arrays are ``$2`` onwards.

    Row by row: in FROM each array would first be written, element by element, to a store of its
    own, which takes as long as reading the rows from them.
    """
    arrays = ", ".join(
        f"unnest({parameter(shape.columns[name], number)}) AS {quoted(name)}"
        for number, name in enumerate(columns, start=2)
    )
    values = (selected(shape.columns[name], f"incoming.{quoted(name)}") for name in columns)
    return f"""SELECT {", ".join(("$1::text", *values))}
    FROM (SELECT {arrays}) AS incoming"""  # noqa: S608 - as above


def listed(*names: str) -> str:
    """``names`` as SQL lists columns."""
    return ", ".join(map(quoted, names))


def _full_key(shape: TableShape, key: Sequence[str]) -> tuple[str, ...]:
    """The table's unique key of ``key`` and the tenant id, in the table's order."""
    if not isinstance(key, Sequence) or isinstance(key, str):
        raise WriteRefused(
            f"the key for {shape} is {key!r:.40}",
            why="it is a list of the columns that say which row is which; upsert needs one",
            next_step='key=["id"]',
        )
    wanted = {TENANT_ID, *(checked_name(name, "column") for name in key)}
    for unique in shape.unique_keys:
        if set(unique) == wanted and TENANT_ID not in key:
            return unique
    keys = [[name for name in one if name != TENANT_ID] for one in shape.unique_keys]
    there = ", ".join(map(repr, keys))
    raise WriteRefused(
        f"{shape} has no unique key of {[*key]} and the tenant id",
        why=f"its keys, each with the tenant id, which is never the author's job: {there}"
        if keys
        else "it has none at all: rows can only be appended to it",
        next_step=f"key={keys[0]}, or declare the key in schema.sql"
        if keys
        else f"PRIMARY KEY ({', '.join((TENANT_ID, *key))}) in schema.sql",
    )


def _checked_columns(
    shape: TableShape, names: Iterable[str], full_key: Sequence[str]
) -> tuple[str, ...]:
    """``names`` in the table's order.  Raises: WriteRefused, when a row may not have them."""
    given = {checked_name(name, "column") for name in names}
    for name in sorted(given):
        _check_writable(shape, name, full_key)
    missing = [name for name in full_key if name != TENANT_ID and name not in given]
    if missing:
        raise WriteRefused(
            f"a row for {shape} lacks {', '.join(missing)}",
            why="its key says which row of the table it is",
            next_step="give every row all columns of the key",
        )
    if not given:
        raise WriteRefused(f"a row for {shape} has no columns")
    return tuple(name for name in shape.columns if name in given)


def _check_writable(shape: TableShape, name: str, full_key: Sequence[str]) -> None:
    column = shape.columns.get(name)
    why = next_step = ""
    if name == TENANT_ID:
        why, next_step = "the tenant id is never the author's job", "leave it out of the rows"
    elif name in FRAMEWORK_COLUMNS:
        why, next_step = "harvestd keeps it itself", "leave it out, or call yours otherwise"
    elif column is None:
        own = [one for one in shape.columns if one not in (TENANT_ID, *FRAMEWORK_COLUMNS)]
        why = f"the table has no such column; it has {', '.join(own)}"
        keeper = (
            "let raw take it, by leaving out unknown='freeze' and raw itself"
            if RAW in shape.columns and shape.columns[RAW].type == "jsonb"
            else "give the table a column raw jsonb, which takes whatever has none"
        )
        next_step = (
            "add it with ALTER TABLE ... ADD COLUMN IF NOT EXISTS to schema.sql (a CREATE TABLE "
            f"does nothing where the table is there); or {keeper}; or say unknown='discard'"
        )
    elif column.generated:
        why, next_step = "the database computes it", "leave it out of the rows"
    elif column.in_key and name not in full_key:
        # Columns of keys are not granted for update, and left out of SET a change would be lost.
        why = "it is part of another unique key, and such columns cannot be updated"
        next_step = "use that key, or make it a plain index in schema.sql"
    if why:
        raise WriteRefused(f"column {name} of {shape} cannot be set", why=why, next_step=next_step)


def arrays_for(shape: TableShape, key: Sequence[str] | None, batch: Sequence[Row]) -> list[Group]:
    """``batch`` checked, converted, and without its duplicates.

    Rows are grouped by their columns: one that a row lacks is left alone, or gets its default.
    Of rows with the same key the later wins, column by column; so each key is in one group, and
    ``len(batch)`` minus the rows of the groups is the number of duplicates.  Rows to append
    have no ``key`` (None), and all are kept.  Raises: WriteRefused.
    """
    full_key = () if key is None else _full_key(shape, key)

    @cache
    def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_columns(shape, names, full_key)

    try:
        groups = _grouped(batch, in_order)
        if key is not None and not _plainly_different(shape, full_key, batch):
            groups = _grouped(_without_duplicates(shape, full_key, batch), in_order)
        return [
            Group(
                columns,
                len(rows),
                [sent(shape.columns[name], [row[name] for row in rows]) for name in columns],
            )
            for columns, rows in groups.items()
        ]
    except WriteRefused as error:
        if str(shape) in error.what:
            raise
        raise refused_row(shape, key, batch, error) from None


def _grouped(
    rows: Iterable[Row], in_order: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their columns; checks that the key is there, and all may be written."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    names_before: tuple[str, ...] | None = None
    group: list[Row] = []
    for row in rows:
        names = tuple(row)
        if names != names_before:
            group = groups.setdefault(in_order(names), [])
            names_before = names
        group.append(row)
    return groups


def _plainly_different(shape: TableShape, full_key: Sequence[str], batch: Sequence[Row]) -> bool:
    """Whether each row has a key of its own, as far as that is seen without converting any."""
    parts = []
    for name in full_key:
        if name != TENANT_ID:
            values = [row[name] for row in batch]
            if None in values or not plainly_fine(shape.columns[name])(values):
                return False
            parts.append(values)
    return len(set(zip(*parts, strict=True))) == len(batch)


def _without_duplicates(
    shape: TableShape, full_key: Sequence[str], batch: Iterable[Row]
) -> Iterable[Row]:
    own = [(name, _identity(shape.columns[name])) for name in full_key if name != TENANT_ID]
    kept: dict[tuple[object, ...], Row] = {}
    for row in batch:
        parts = []
        for name, convert in own:
            if (value := row[name]) is None:
                raise WriteRefused(
                    f"column {name} is None in a row",
                    why="it is part of the key, and a row without key would be added each time",
                    next_step="leave such rows out, or choose a key that every row has",
                )
            parts.append(convert(value))
        identity = tuple(parts)
        earlier = kept.get(identity)
        kept[identity] = row if earlier is None else {**earlier, **row}
    return kept.values()


def _identity(column: Column) -> Convert:
    """Equal for two values exactly when the server finds them equal."""
    convert = converter(column)
    if column.plain_type != "numeric" or column.is_array:
        return convert

    def as_number(value: object) -> object:  # 1.0 and 1.00 are one key
        return Decimal(str(convert(value)))

    return as_number
