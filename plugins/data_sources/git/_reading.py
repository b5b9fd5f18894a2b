"""Reading much from a mirror: questions from a file, answers piece by piece.

diff-tree is told the first parent by name, since what ``-m --first-parent`` means to it changed
over the versions of git.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from . import _git, _mirror, _parse

OBJECT_BYTES_MAX = _parse.TEXT_BYTES_MAX + (1 << 20)
"""Of a larger object the rest is not read: headers, and more than a message may have."""
BLOCK_BYTES = 1 << 16
RECORD_BYTES_MAX = 1 << 20
"""A path that is longer is no file of anybody's."""
ANSWERS = _git.Limit(seconds=6 * 3600.0)
"""For commands whose answer is read from a pipe: they wait for the database between chunks."""
DIFF = (
    *("diff-tree", "--stdin", "--always", "--root", "-r"),
    # Beyond 400 added or deleted files a commit's renames count as both.
    *("-M", "-l400", "--no-ext-diff", "--no-textconv", "--no-color"),
)
"""Reads lines of a commit and what to compare it with; a commit alone is compared with nothing."""


@contextmanager
def stdin_lines(words: Iterable[str]) -> Iterator[IO[bytes]]:
    """An unnamed file with a word a line, at its beginning: what a command reads as stdin."""
    with tempfile.TemporaryFile() as file:
        file.writelines(word.encode("ascii") + b"\n" for word in words)
        file.seek(0)
        yield file


async def read_objects(
    mirror: _mirror.Mirror, kind: bytes, names: Sequence[str]
) -> AsyncGenerator[tuple[bytes, bool], None]:
    """The raw object of each name, or its beginning and True.  Raises: Damaged, GitError."""
    arguments = [f"--git-dir={mirror.folder}", "cat-file", "--batch"]
    with stdin_lines(names) as asked:
        async with mirror.git.started(arguments, limit=ANSWERS, stdin=asked) as child:
            for name in names:
                yield await _object(mirror, child, kind, name)


async def _object(
    mirror: _mirror.Mirror, child: _git.Child, kind: bytes, sha: str
) -> tuple[bytes, bool]:
    header = (await child.read_line()).split()
    if len(header) != 3 or header[1] != kind:
        try:
            await child.ended()
        except _git.CommandFailed as error:
            raise _mirror.damaged(error, mirror.folder) from None
        raise _mirror.Damaged(f"the mirror {mirror.folder.name} lacks {kind.decode()} {sha}")
    size = int(header[2])
    raw = await child.read(min(size, OBJECT_BYTES_MAX))
    left = size - len(raw) + 1  # and the line end behind it
    while left > 0 and (skipped := await child.read(min(left, 1 << 20))):
        left -= len(skipped)
    if left > 0:
        raise _mirror.Damaged(f"the mirror {mirror.folder.name} holds half of {sha}")
    return raw, size > OBJECT_BYTES_MAX


async def read_records(
    mirror: _mirror.Mirror, arguments: Iterable[str], words: Iterable[str]
) -> AsyncGenerator[bytes, None]:
    """What a command answers to ``words``, cut at each NUL.  Raises: Damaged, GitError."""
    with stdin_lines(words) as asked:
        command = [f"--git-dir={mirror.folder}", *arguments]
        async with mirror.git.started(command, limit=ANSWERS, stdin=asked) as child:
            pending = b""
            while block := await child.read(BLOCK_BYTES):
                *records, pending = (pending + block).split(b"\0")
                for record in records:
                    yield record
                if len(pending) > RECORD_BYTES_MAX:
                    raise _git.GitError(
                        f"the mirror {mirror.folder.name} holds a path of more than "
                        f"{RECORD_BYTES_MAX:,} bytes",
                        next_step="leave its repository out of GIT_REPOSITORIES",
                    )
            try:
                await child.ended()
            except _git.CommandFailed as error:
                raise _mirror.damaged(error, mirror.folder) from None
