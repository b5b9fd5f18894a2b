"""Real upstream repositories, made by the git binary; the same every time, whoever runs it.

Dates, identities and configuration come from here: the user's git has no influence.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from plugins.data_sources.git import (
    _access,
    _address,
    _commits,
    _frontier,
    _git,
    _mirror,
    _walk,
)

from tests.processes import wait_until

MONDAY = 1_767_571_200
"""2026-01-05T00:00:00Z in seconds since 1970."""

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": f"{MONDAY} +0100",
    "GIT_COMMITTER_NAME": "Carl",
    "GIT_COMMITTER_EMAIL": "carl@example.org",
    "GIT_COMMITTER_DATE": f"{MONDAY} +0100",
}

Content = str | tuple[str, str]
"""The text of a file; or its mode and its text, of a submodule its commit."""


@dataclass(frozen=True)
class Upstream:
    """A bare repository that plays the upstream."""

    path: Path

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git in it; the answer without the last line end."""
        done = subprocess.run(
            ["git", f"--git-dir={self.path}", *arguments],
            input=stdin,
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
        )
        return done.stdout.decode("utf-8", "replace").removesuffix("\n")

    def write(self, raw: bytes) -> str:
        """Store a commit object as it is, however odd: git itself would refuse some."""
        whole = b"commit %d\x00" % len(raw) + raw
        sha = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        target = self.path / "objects" / sha[:2] / sha[2:]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(zlib.compress(whole))
        return sha

    def commit(
        self,
        message: bytes = b"a commit\n",
        *,
        parents: Iterable[str] = (),
        files: Mapping[str, bytes] | None = None,
        seconds: int = MONDAY,
        author: bytes | None = None,
        headers: bytes = b"",
    ) -> str:
        """Make a commit that no ref leads to yet; ``files`` is the whole tree."""
        someone = author if author is not None else b"Ada <ada@example.org> %d +0100" % seconds
        lines = [b"tree " + self.tree(files or {}).encode()]
        lines += [b"parent " + parent.encode() for parent in parents]
        lines += [b"author " + someone, b"committer Carl <carl@example.org> %d -0330" % seconds]
        return self.write(b"\n".join(lines) + b"\n" + headers + b"\n" + message)

    def tree(self, files: Mapping[str, bytes]) -> str:
        """Make a tree of files in its top folder."""
        lines = []
        for name, content in sorted(files.items()):
            blob = self.git("hash-object", "-w", "--stdin", stdin=content)
            lines.append(f"100644 blob {blob}\t{name}\n")
        return self.git("mktree", stdin="".join(lines).encode())

    def grow(
        self,
        files: Mapping[str, Content] | Mapping[bytes, Content],
        *,
        parents: Iterable[str] = (),
        branch: str = "main",
    ) -> str:
        """Make a commit, and let a branch lead to it.

        ``files`` is the whole tree.
        """
        stream = [b"commit refs/heads/%s" % branch.encode()]
        stream.append(b"committer Carl <carl@example.org> %d +0000\ndata 1\nm" % MONDAY)
        for word, parent in zip(["from", *["merge"] * 99], parents, strict=False):
            stream.append(f"{word} {parent}".encode())
        stream.append(b"deleteall")
        for path, content in files.items():
            mode, text = content if isinstance(content, tuple) else ("100644", content)
            raw = path if isinstance(path, bytes) else path.encode()
            name = b'"' + b"".join(b"\\%03o" % byte for byte in raw) + b'"'
            if mode == "160000":
                stream.append(b"M 160000 %s %s" % (text.encode(), name))
            else:
                stream.append(b"M %s inline %s" % (mode.encode(), name))
                stream.append(b"data %d\n%s" % (len(text.encode()), text.encode()))
        self.git("fast-import", "--quiet", "--force", stdin=b"\n".join(stream) + b"\n")
        return self.git("rev-parse", f"refs/heads/{branch}")

    def chain(self, count: int, *, on: str | None = None, name: str = "main") -> list[str]:
        """``count`` commits, each the child of the one before; the branch ``name`` leads there."""
        made: list[str] = []
        for number in range(count):
            parents = made[-1:] or ([on] if on else [])
            files = {"number": b"%d\n" % number, "branch": name.encode()}
            message = f"{name} {number}\n".encode()
            made.append(self.commit(message, parents=parents, files=files, seconds=MONDAY + number))
        self.point(f"refs/heads/{name}", made[-1])
        return made

    def point(self, ref: str, sha: str | None) -> None:
        """Let a ref lead to an object; None removes it."""
        self.git("update-ref", *(["-d", ref] if sha is None else [ref, sha]))

    def reachable(self) -> set[str]:
        """What git itself says is reachable from any ref or HEAD."""
        return set(self.git("rev-list", "--all").split())


def an_upstream(folder: Path, *, object_format: str = "sha1") -> Upstream:
    """An empty upstream repository whose HEAD leads to ``main``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]
    upstream = Upstream(folder)
    upstream.git(*arguments, f"--object-format={object_format}", str(folder))
    return upstream


def config(*repositories: Path) -> dict[str, dict[str, str]]:
    """A tenant's git configuration for these paths."""
    return {"git": {"GIT_REPOSITORIES": shlex.join(str(path) for path in repositories)}}


def repository_at(path: Path) -> _address.Repository:
    """The repository that a tenant means by this path."""
    return _address.Repository(url=str(path))


def git_for(repository: _address.Repository, cache: Path, token: str | None = None) -> _git.Git:
    """The git that a run would use for ``repository``."""
    cache.mkdir(parents=True, exist_ok=True)
    home = _access.prepare(cache, [repository])
    return _access.git_for(repository, home=home, token=token)


async def open_mirror(upstream: Upstream, cache: Path) -> _mirror.Mirror:
    """Make or update the mirror of ``upstream`` below ``cache``."""
    repository = repository_at(upstream.path)
    return await _mirror.open_mirror(repository, git_for(repository, cache), cache)


@dataclass(frozen=True)
class Walked:
    """All that a walk gave: every row in its order, and what is loaded at its end."""

    rows: list[dict[str, object]]
    loaded: _frontier.Loaded

    @property
    def shas(self) -> list[object]:
        """The names of the rows, in order."""
        return [row["sha"] for row in self.rows]

    @property
    def heads(self) -> list[str]:
        """The heads at its end."""
        return list(self.loaded.heads)


async def walk(
    mirror: _mirror.Mirror,
    loaded: _frontier.Loaded | None = None,
    *,
    chunks_max: int | None = None,
    read: _walk.Read = _commits.read,
) -> Walked:
    """Walk a mirror, by default from nothing; after ``chunks_max`` chunks the walker dies."""
    loaded = loaded or _frontier.Loaded(shallow=mirror.shallow)
    rows: list[dict[str, object]] = []
    async with aclosing(_walk.walk(mirror, loaded, read)) as chunks:
        seen = 0
        while seen != chunks_max:
            chunk = await anext(chunks, None)
            if chunk is None:
                break
            seen += 1
            rows += chunk.rows
            loaded = chunk.loaded
    return Walked(rows, loaded)


def hanging_git(repository: _address.Repository, cache: Path) -> _git.Git:
    """A git whose upstream lists its refs and then hangs, saying so in the pipe ``cache/pipe``."""
    git = git_for(repository, cache)
    programs = cache / "programs"
    programs.mkdir()
    os.mkfifo(cache / "pipe")
    hanging = programs / "git-upload-pack"
    hanging.write_text(
        "#!/bin/sh\n"
        f"mkdir '{cache}/listed' && exec git upload-pack \"$@\"\n"
        f"echo $$ >'{cache}/pipe'; exec sleep 600\n"
    )
    hanging.chmod(0o755)
    return replace(git, environment={**git.environment, "GIT_EXEC_PATH": str(programs)})


async def first_line(pipe: Path) -> bytes:
    """What another process writes into a named pipe, within 20 s."""
    reader = asyncio.StreamReader()
    with os.fdopen(os.open(pipe, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as file:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
        try:
            return await asyncio.wait_for(reader.readline(), 20)
        finally:
            transport.close()


async def until_gone(group: int) -> None:
    """Wait until nothing of a process group runs any more (those unwaited for do not)."""

    async def gone() -> bool:
        return not any(_group_and_state(number) == (group, True) for number in os.listdir("/proc"))

    await wait_until(gone, f"the process group {group} to be gone")


def _group_and_state(number: str) -> tuple[int, bool]:
    try:
        state, _, group, *_ = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0, False
    return int(group), state != "Z"
