"""The rows of ``git.file_change`` for a batch of commits, from one ``diff-tree``.

With ``--raw --numstat -z`` it answers for each commit, every field ended by a NUL::

    SHA   :MODE MODE OBJECT OBJECT R086  OLD PATH  NEW PATH  ...   3<TAB>1<TAB>  OLD PATH  NEW PATH
          :MODE MODE OBJECT OBJECT M     PATH                ...   9<TAB>0<TAB>PATH

that is the letters and modes of all its files, then the numbers of all its files in the same
order.  So the files of one commit are held until their numbers come, and nothing else is: the
rows of a commit of 100,000 files are many groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from . import _git, _mirror, _parse, _reading, _walk

GROUP_BYTES = 2 << 20
"""A group ends when its paths, and ROW_BYTES for each of its rows, are this large together."""
ROW_BYTES = 500
HELD_BYTES_MAX = 256 << 20
"""As much may be held of one commit, counted alike: about 500,000 files."""

DIFF = (*_reading.DIFF, "--raw", "--numstat", "-z")
COLUMNS = ("path", "change", "renamed_from", "mode")
CHANGES = {b"A": "added", b"D": "deleted", b"R": "renamed"}
"""By git's letter; with any other a file was modified, maybe into one of another type."""


async def read(
    mirror: _mirror.Mirror, batch: _walk.Names
) -> AsyncGenerator[tuple[list[dict[str, object]], int], None]:
    """One row for each file that a commit changed against its first parent, or against nothing.

    None for a commit where the upstream's history is cut off: its parent is not there to be
    compared with.  As ``_walk.Read`` has it.  Raises: Damaged, GitError.
    """
    place = {sha: number for number, (sha, *_) in enumerate(batch)}
    rows: list[dict[str, object]] = []
    size = told = 0
    async with aclosing(_changes(mirror, batch)) as changes:
        async for row in changes:
            if size >= GROUP_BYTES:
                ended = place[str(row["sha"])]  # the commits before this row's
                yield rows, ended - told
                rows, size, told = [], 0, ended
            rows.append(row)
            size += ROW_BYTES + len(str(row["path"]))
    yield rows, len(batch) - told


async def _changes(
    mirror: _mirror.Mirror, batch: _walk.Names
) -> AsyncGenerator[dict[str, object], None]:
    cut_off = mirror.cut_off
    pairs = (" ".join(named[:2]) for named in batch if named[0] not in cut_off)
    sha, number, held = "", 0, 0
    files: deque[tuple[str, str, str | None, str]] = deque()
    async with aclosing(_reading.read_records(mirror, DIFF, pairs)) as records:
        async for record in records:
            if record.startswith(b":"):
                mode_before, mode_after, _, _, letter = record[1:].split()
                path = _parse.name_text(await anext(records))
                old_path = None
                if letter.startswith(b"R"):
                    old_path, path = path, _parse.name_text(await anext(records))
                change = CHANGES.get(letter[:1], "modified")
                mode = mode_before if change == "deleted" else mode_after
                files.append((path, change, old_path, mode.decode("ascii")))
                held += ROW_BYTES + len(path)
                if held > HELD_BYTES_MAX:
                    raise _too_many(sha, len(files))
            elif b"\t" in record:
                insertions, deletions, name = record.split(b"\t", 2)
                if not name:  # renamed: the names follow, which are known already
                    await anext(records)
                    await anext(records)
                number += 1
                yield {
                    "sha": sha,
                    "number": number,
                    **dict(zip(COLUMNS, files.popleft(), strict=True)),
                    "insertions": None if insertions == b"-" else int(insertions),
                    "deletions": None if deletions == b"-" else int(deletions),
                }
            else:
                sha, number, held = record.decode("ascii"), 0, 0


def _too_many(sha: str, files: int) -> _git.GitError:
    return _git.GitError(
        f"commit {sha} changes more files than can be held",
        why=f"the first {files:,} of them take {HELD_BYTES_MAX >> 20:,} MiB",
        next_step="leave its repository out of GIT_REPOSITORIES",
    )
