"""From a mirror and the heads already loaded: the commits that are missing, in chunks.

Three reading commands, each good at one thing::

    rev-list tips ^heads --topo-order --reverse    names, parents first, into an unnamed file
    diff-tree --stdin --shortstat                  numbers of one batch of names
    cat-file --batch                               raw objects of one batch, one at a time

Names wait in a file, so a walk of any length needs no memory and no process that waits for the
database.  Raw objects instead of ``git log``: exact text whatever its encoding or size, and the
same with every version of git.  diff-tree is told the first parent by name, since what ``-m
--first-parent`` means to it changed over the versions.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO

from . import _frontier, _git, _mirror, _parse

CHUNK_COMMITS = 500
CHUNK_BYTES = 8 << 20
"""A chunk ends early when its raw commits are this large together."""
OBJECT_BYTES_MAX = _parse.MESSAGE_BYTES_MAX + (1 << 20)
"""Of a larger commit object the rest is not read: headers, and more than a message may have."""
PASSING_HEADS = 5_000
"""Heads kept with each chunk; when the walk is complete, all that fit."""
DOUBTED_MIN, DOUBTED_MAX = 1_000, 200_000
"""How many listed commits are worth a check that they are not loaded: fewer are stored again
sooner than that, more would be held in memory."""
OBJECTS = _git.Limit(seconds=6 * 3600.0)
"""Reading objects waits for the database between chunks."""
DIFF = (
    *("diff-tree", "--stdin", "--always", "--root", "-r", "--shortstat"),
    # Beyond 400 added or deleted files a commit's renames count as both.
    *("-M", "-l400", "--no-ext-diff", "--no-textconv", "--no-color"),
)

Names = list[list[str]]
"""Per commit its name and, so far as the mirror reaches, its parents'."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some commits, parents first; ``loaded`` holds once they are stored."""

    rows: list[dict[str, object]]
    loaded: _frontier.Loaded
    done: int
    """Commits of the walk up to here, of ``total``."""
    total: int


async def walk(mirror: _mirror.Mirror, loaded: _frontier.Loaded) -> AsyncGenerator[Chunk, None]:
    """Every commit reachable from a ref or HEAD that is not ``loaded``, parents first.

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
    async with aclosing(_chunks(mirror, tips, frontier, loaded.shallow)) as chunks:
        async for chunk in chunks:
            yield chunk
    heads = await _tidied(mirror, tips, frontier)
    yield Chunk([], _frontier.Loaded(heads, digest, loaded.shallow), 0, 0)


async def _chunks(
    mirror: _mirror.Mirror, tips: set[str], frontier: _frontier.Frontier, shallow: str
) -> AsyncGenerator[Chunk, None]:
    with await _listed(mirror, tips, frontier.heads()) as lines:
        total = _count_lines(lines)
        done = 0
        while batch := [line.decode("ascii").split() for line in islice(lines, CHUNK_COMMITS)]:
            async with aclosing(_rows(mirror, batch)) as groups:
                named = iter(batch)
                async for rows in groups:
                    for sha, *parents in islice(named, len(rows)):
                        frontier.add(sha, parents)
                    done += len(rows)
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
        _lines(unsure) as names,
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
    with _lines(chain(sorted(tips), (f"^{sha}" for sha in known))) as asked:
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
        _lines(known) as heads,
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


async def _rows(
    mirror: _mirror.Mirror, batch: Names
) -> AsyncGenerator[list[dict[str, object]], None]:
    """The rows of ``batch`` in its order, in groups of about ``CHUNK_BYTES`` at most."""
    stats = await _stats(mirror, batch)
    arguments = [f"--git-dir={mirror.folder}", "cat-file", "--batch"]
    with _lines(sha for sha, *_ in batch) as names:
        async with mirror.git.started(arguments, limit=OBJECTS, stdin=names) as child:
            rows: list[dict[str, object]] = []
            size = 0
            for sha, *_ in batch:
                raw, is_cut = await _object(mirror, child, sha)
                rows.append(_parse.parse_commit(sha, raw, stats[sha], is_cut=is_cut))
                size += len(raw)
                if size >= CHUNK_BYTES:
                    yield rows
                    rows, size = [], 0
            if rows:
                yield rows


async def _object(mirror: _mirror.Mirror, child: _git.Child, sha: str) -> tuple[bytes, bool]:
    """The next object, or its beginning and True."""
    header = (await child.read_line()).split()
    if len(header) != 3 or header[1] != b"commit":
        try:
            await child.ended()
        except _git.CommandFailed as error:
            raise _mirror.damaged(error, mirror.folder) from None
        raise _mirror.Damaged(f"the mirror {mirror.folder.name} lacks commit {sha}")
    size = int(header[2])
    raw = await child.read(min(size, OBJECT_BYTES_MAX))
    left = size - len(raw) + 1  # and the line end behind it
    while left > 0 and (skipped := await child.read(min(left, 1 << 20))):
        left -= len(skipped)
    if left > 0:
        raise _mirror.Damaged(f"the mirror {mirror.folder.name} holds half of commit {sha}")
    return raw, size > OBJECT_BYTES_MAX


async def _stats(mirror: _mirror.Mirror, batch: Names) -> dict[str, _parse.Stats]:
    """What each commit changed against its first parent, or against nothing."""
    stats = {sha: _parse.Stats() for sha, *_ in batch}
    with (
        _lines(" ".join(named[:2]) for named in batch) as pairs,
        await mirror.output(*DIFF, stdin=pairs) as answer,
    ):
        current = ""
        for line in answer:
            if (found := _parse.parse_shortstat(line)) is not None:
                stats[current] = found
            elif (name := line.strip().decode("ascii", "replace")) in stats:
                current = name
    return stats


@contextmanager
def _lines(words: Iterable[str]) -> Iterator[IO[bytes]]:
    """An unnamed file with a word a line, at its beginning: what a command reads as stdin."""
    with tempfile.TemporaryFile() as file:
        file.writelines(word.encode("ascii") + b"\n" for word in words)
        file.seek(0)
        yield file


def _count_lines(file: IO[bytes]) -> int:
    count = 0
    while block := file.read(1 << 20):
        count += block.count(b"\n")
    file.seek(0)
    return count
