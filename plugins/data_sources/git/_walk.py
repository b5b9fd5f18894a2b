"""From a mirror and the heads already loaded: the commits that are missing, in chunks.

``rev-list tips ^heads --topo-order --reverse`` gives names, parents first, into an unnamed file:
a walk of any length needs no memory, and no process that waits for the database.  What is to be
known of a batch of commits is read by ``_commits.py`` or ``_changes.py``.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from . import _frontier, _mirror, _reading

CHUNK_COMMITS = 500
PASSING_HEADS = 5_000
"""Heads kept with each chunk; when the walk is complete, all that fit."""
DOUBTED_MIN, DOUBTED_MAX = 1_000, 200_000
"""How many listed commits are worth a check that they are not loaded: fewer are stored again
sooner than that, more would be held in memory."""

Names = list[list[str]]
"""Per commit its name and, so far as the mirror reaches, its parents'."""

Read = Callable[[_mirror.Mirror, Names], AsyncGenerator[tuple[list[dict[str, object]], int], None]]
"""The rows of a batch in its order, in groups of bounded size, each with the number of commits
whose rows end in it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of some commits, parents first; ``loaded`` holds once they are stored."""

    rows: list[dict[str, object]]
    loaded: _frontier.Loaded
    done: int
    """Commits of the walk up to here, of ``total``."""
    total: int


async def walk(
    mirror: _mirror.Mirror, loaded: _frontier.Loaded, read: Read
) -> AsyncGenerator[Chunk, None]:
    """What ``read`` says of every commit reachable from a ref or HEAD that is not ``loaded``.

    Heads that the mirror lacks are dropped, and at the end those that no ref leads to any
    more: a last chunk without rows says that the walk is complete.  Some commits that are
    loaded may come again (``_listed`` says which).

    Raises: Damaged, if the mirror cannot be read; GitError.
    """
    # One reading of the refs for the whole walk: another process may fetch meanwhile.
    with await mirror.output("rev-list", "--no-walk=unsorted", "--all") as answer:
        tips = {line.decode("ascii").strip() for line in answer}
    digest = _frontier.digest_of(tips)
    if digest == loaded.tips:
        return
    frontier = _frontier.Frontier(await _present(mirror, loaded.heads, tips))
    async with aclosing(_chunks(mirror, tips, frontier, loaded.shallow, read)) as chunks:
        async for chunk in chunks:
            yield chunk
    heads = await _tidied(mirror, tips, frontier)
    yield Chunk([], _frontier.Loaded(heads, digest, loaded.shallow), 0, 0)


async def _chunks(
    mirror: _mirror.Mirror,
    tips: set[str],
    frontier: _frontier.Frontier,
    shallow: str,
    read: Read,
) -> AsyncGenerator[Chunk, None]:
    with await _listed(mirror, tips, frontier.heads()) as lines:
        total = _count_lines(lines)
        done = 0
        while batch := [line.decode("ascii").split() for line in islice(lines, CHUNK_COMMITS)]:
            async with aclosing(read(mirror, batch)) as groups:
                named = iter(batch)
                async for rows, ended in groups:
                    for sha, *parents in islice(named, ended):
                        frontier.add(sha, parents)
                    done += ended
                    passing = _frontier.Loaded(frontier.heads(PASSING_HEADS), "", shallow)
                    yield Chunk(rows, passing, done, total)


async def _tidied(
    mirror: _mirror.Mirror, tips: set[str], frontier: _frontier.Frontier
) -> tuple[str, ...]:
    """The heads without those that are no tips, which would only become more and more.

    What the others do not reach was loaded all the same, so its own heads join them.
    """
    heads = frontier.heads()
    standing = [sha for sha in heads if sha in tips]
    if len(standing) == len(heads):
        return heads
    tidied = _frontier.Frontier(standing)
    with await _list_new(mirror, tips, standing) as lines:
        for line in lines:
            sha, *parents = line.decode("ascii").split()
            tidied.add(sha, parents)
    return tidied.heads()


async def _present(mirror: _mirror.Mirror, heads: Iterable[str], tips: set[str]) -> list[str]:
    """Those of ``heads`` that are commits of the mirror."""
    unsure = [sha for sha in heads if sha not in tips]
    if not unsure:
        return list(heads)
    with (
        _reading.stdin_lines(unsure) as names,
        await mirror.output("cat-file", "--batch-check", stdin=names) as answer,
    ):
        lacking = {
            line.split()[0].decode("ascii") for line in answer if line.split()[1:2] != [b"commit"]
        }
    return [sha for sha in heads if sha not in lacking]


async def _list_new(mirror: _mirror.Mirror, tips: set[str], known: Iterable[str]) -> IO[bytes]:
    """Lines of ``sha parent parent ...`` for what ``tips`` reach and ``known`` do not."""
    if not tips:
        return tempfile.TemporaryFile()
    with _reading.stdin_lines(chain(sorted(tips), (f"^{sha}" for sha in known))) as asked:
        return await mirror.output(
            "rev-list", "--topo-order", "--reverse", "--parents", "--stdin", stdin=asked
        )


async def _listed(mirror: _mirror.Mirror, tips: set[str], known: Sequence[str]) -> IO[bytes]:
    """As ``_list_new``, with less that is loaded already.

    git stops following ``known`` downwards when the dates there are older than everywhere
    else; where clocks were wrong, it lists commits that ``known`` reach.  They do no harm, but
    there may be many of them, at every change of the upstream.
    """
    lines = await _list_new(mirror, tips, known)
    if not known or not DOUBTED_MIN <= _count_lines(lines) <= DOUBTED_MAX:
        return lines
    with (
        lines,
        _reading.stdin_lines(known) as heads,
        await mirror.output("rev-list", "--stdin", stdin=heads) as covered,
    ):
        # A thread: a million names would hold up everybody else on the event loop.
        return await asyncio.to_thread(_without, lines, covered)


def _without(lines: IO[bytes], covered: IO[bytes]) -> IO[bytes]:
    """Those of ``lines`` whose first word is no line of ``covered``, in their order."""
    doubted = {line.split(maxsplit=1)[0]: line for line in lines}
    for name in covered:
        doubted.pop(name.rstrip(), None)
    certain = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    certain.writelines(doubted.values())
    certain.seek(0)
    return certain


def _count_lines(file: IO[bytes]) -> int:
    count = 0
    while block := file.read(1 << 20):
        count += block.count(b"\n")
    file.seek(0)
    return count
