"""Keys of a row that its table has no column for: kept in its column ``raw``, refused, or left out.

Upstreams add fields without notice.  A source that wants to keep them gives its table a column
``raw jsonb``; of any other the author hears, unless he says that they do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from harvestd.errors import WriteRefused
from harvestd.loading.rows import Row
from harvestd.loading.writes import FRAMEWORK_COLUMNS, RAW, TENANT_ID, TableShape

Unknown = Literal["freeze", "discard"]


def known_keys(shape: TableShape, batch: Sequence[Row], unknown: Unknown | None) -> Sequence[Row]:
    """``batch``, whose rows have columns of ``shape`` only, as far as that can be mended here.

    What is left for `arrays_for` to refuse: with "freeze", or without a column ``raw`` of type
    jsonb, and where a row gives ``raw`` itself.  Raises: WriteRefused, for another ``unknown``.
    """
    if unknown is not None and unknown not in get_args(Unknown):
        raise WriteRefused(
            f"unknown is given as {unknown!r:.40}",
            why="it says what becomes of keys that the table has no column for",
            next_step="'freeze' refuses them, 'discard' leaves them out; without it they go into "
            "the column raw jsonb of the table",
        )
    raw = shape.columns.get(RAW)
    keeps = raw is not None and raw.type == "jsonb"
    if unknown == "freeze" or (unknown is None and not keeps):
        return batch
    # Most rows of a batch have the same keys: what is unknown is asked once for each set of them.
    extra = {names: _unknown_of(shape, names) for names in set(map(tuple, batch))}
    if not any(extra.values()):
        return batch
    return [_mended(row, extra[tuple(row)], keep=unknown is None) for row in batch]


def _unknown_of(shape: TableShape, names: tuple[str, ...]) -> frozenset[str]:
    kept = (TENANT_ID, *FRAMEWORK_COLUMNS)
    return frozenset(
        name
        for name in names
        if isinstance(name, str) and name not in shape.columns and name not in kept
    )


def _mended(row: Row, extra: frozenset[str], *, keep: bool) -> Row:
    if not extra or (keep and RAW in row):
        return row
    known: dict[str, object] = {name: value for name, value in row.items() if name not in extra}
    if keep:
        known[RAW] = {name: value for name, value in row.items() if name in extra}
    return known
