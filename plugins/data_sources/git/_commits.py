"""The rows of ``git.commit`` for a batch of commits.

The numbers of the whole batch come from ``diff-tree --shortstat``, then the raw objects from
``cat-file --batch``, one at a time.  Raw objects instead of ``git log``: exact text whatever its
encoding or size, and the same with every version of git.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from . import _mirror, _parse, _reading, _walk

CHUNK_BYTES = 8 << 20
"""A group ends early when its raw commits are this large together."""


async def read(
    mirror: _mirror.Mirror, batch: _walk.Names
) -> AsyncGenerator[tuple[list[dict[str, object]], int], None]:
    """One row a commit, as ``_walk.Read`` has it.  Raises: Damaged, GitError."""
    stats = await _stats(mirror, batch)
    rows: list[dict[str, object]] = []
    size = 0
    shas = [sha for sha, *_ in batch]
    async with aclosing(_reading.read_objects(mirror, b"commit", shas)) as objects:
        for sha in shas:
            raw, is_cut = await anext(objects)
            rows.append(_parse.parse_commit(sha, raw, stats[sha], is_cut=is_cut))
            size += len(raw)
            if size >= CHUNK_BYTES:
                yield rows, len(rows)
                rows, size = [], 0
        if rows:
            yield rows, len(rows)


async def _stats(mirror: _mirror.Mirror, batch: _walk.Names) -> dict[str, _parse.Stats]:
    """What each commit changed against its first parent, or against nothing."""
    stats = {sha: _parse.Stats() for sha, *_ in batch}
    with (
        _reading.stdin_lines(" ".join(named[:2]) for named in batch) as pairs,
        await mirror.output(*_reading.DIFF, "--shortstat", stdin=pairs) as answer,
    ):
        current = ""
        for line in answer:
            if (found := _parse.parse_shortstat(line)) is not None:
                stats[current] = found
            elif (name := line.strip().decode("ascii", "replace")) in stats:
                current = name
    return stats
