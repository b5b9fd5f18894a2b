"""Running git as a child that nothing around it can influence, and that never outlives us.

The environment is built from nothing: git sees a configuration file of ours (``_access.py``
writes it) instead of the user's and the machine's, no prompt, no hook, no replaced object.
Every command has a limit of time, of silence where git tells its progress, and of bytes.
The child leads a session of its own; when the caller is cancelled, or a limit is reached, the
whole group is ended, politely first, so that git can remove its lock files.

What git says on stderr is kept to its last few kilobytes and stripped of credentials before it
becomes part of an error.  Works with git 2.30 and newer; no other program is needed, except
/bin/sh, and ssh for ssh addresses.
"""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from os import killpg
from typing import IO

from harvestd.plugin import ScriptFailed

NOISE_LINES = 40
"""How many of git's last lines on stderr an error may quote."""
NOISE_LINE_CHARACTERS = 500
GRACE_SECONDS = 5.0
"""How long a group has to end itself after SIGTERM."""
READ_SECONDS = 300.0
"""How long a reader waits for the next bytes of a child's output."""

GiB = 1 << 30

# A fixed text that nothing is pasted into.  The bounds must hold before git starts its helpers
# (index-pack), which setting them from outside comes too late for.  512 bytes are a block; what
# -d counts, in KiB, is what git may fill, not the packs that it maps.
BOUNDED = """\
umask 077; ulimit -c 0; ulimit -f "$0"; ulimit -d "$1"; shift
exec git --no-replace-objects -c core.hooksPath=/dev/null "$@"
"""
NOT_FOUND = 127
"""What sh ends with when there is no such program."""

_COMMAND = re.compile(r"[a-z][a-z-]*")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s']*@")
_PROGRESS = re.compile(r"^(?:remote: )?[A-Z][a-z]+(?: [a-z]+)*: +\d+")


class GitError(ScriptFailed):
    """A repository cannot be read, or is refused.  No credentials are in it."""


class CommandFailed(GitError):
    """git ended with an error; ``noise`` is the end of what it said."""

    def __init__(self, command: str, status: int, noise: str) -> None:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        super().__init__(f"git {command} failed", why=f"{how}: {noise}" if noise else how)
        self.status = status
        self.noise = noise


@dataclass(frozen=True, slots=True)
class Limit:
    """What one command may take."""

    seconds: float
    silent_seconds: float = float("inf")
    """Without a word on stderr; only for commands that were asked for ``--progress``."""
    file_bytes: int = GiB
    """The largest file that it may write."""
    memory_bytes: int = 2 * GiB
    """Some trees of a few kilobytes stand for billions of files, all of which git would hold."""


LOCAL = Limit(seconds=1800.0)
"""Commands that only read the mirror."""


@dataclass(frozen=True, slots=True)
class Git:
    """git with its environment, and the words that no error may repeat."""

    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def run(
        self,
        arguments: Sequence[str],
        *,
        limit: Limit = LOCAL,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        keep: tuple[int, ...] = (),
    ) -> str:
        """Run one command to its end; what it said on stderr comes back.

        ``keep`` lists descriptors the child inherits.

        Raises: CommandFailed; GitError if a limit was reached or there is no git.
        """
        async with self.started(
            arguments, limit=limit, stdin=stdin, stdout=stdout or DEVNULL, keep=keep
        ) as child:
            return await child.ended()

    async def output(
        self, arguments: Sequence[str], *, limit: Limit = LOCAL, stdin: IO[bytes] | None = None
    ) -> tuple[IO[bytes], str]:
        """Run one command into an unnamed file; it comes back at its beginning, with the noise.

        A file instead of a pipe: a list of a million commits needs no memory, its length is
        known before the first is used, and no git waits while rows are being loaded.

        Raises: as ``run``.
        """
        answer = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            noise = await self.run(arguments, limit=limit, stdin=stdin, stdout=answer)
        except BaseException:
            answer.close()
            raise
        answer.seek(0)
        return answer, noise

    @asynccontextmanager
    async def started(
        self,
        arguments: Sequence[str],
        *,
        limit: Limit,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | int = PIPE,
        keep: tuple[int, ...] = (),
    ) -> AsyncIterator[Child]:
        """A running command, which is gone when the block is left, however it is left."""
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", BOUNDED, str(limit.file_bytes // 512)),
            *(str(limit.memory_bytes // 1024), *arguments),
            stdin=stdin or DEVNULL,
            stdout=stdout,
            stderr=PIPE,
            env=dict(self.environment),
            # Nobody's repository lends its configuration to a command without --git-dir.
            cwd="/",
            start_new_session=True,
            pass_fds=keep,
        )
        command = next(word for word in arguments if _COMMAND.fullmatch(word))
        child = Child(process, command, limit, self.secrets)
        try:
            yield child
        finally:
            ending = asyncio.create_task(child.end())
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                _signal(process, signal.SIGKILL)  # cancelled twice: no more grace
                raise


class Child:
    """A git under way: its output, its end, and what it said."""

    def __init__(
        self, process: Process, command: str, limit: Limit, secrets: tuple[str, ...]
    ) -> None:
        self._process = process
        self._command = command
        self._limit = limit
        self._secrets = secrets
        self._lines: deque[str] = deque(maxlen=NOISE_LINES)
        self._started_at = self._heard_at = asyncio.get_running_loop().time()
        self._listener = asyncio.create_task(self._listen())

    async def read_line(self) -> bytes:
        """The next line of its output with the newline; empty at the end."""
        assert self._process.stdout is not None, "started without a pipe"
        async with self._patience():
            return await self._process.stdout.readline()

    async def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes of its output, fewer only at the end."""
        assert self._process.stdout is not None, "started without a pipe"
        async with self._patience():
            try:
                return await self._process.stdout.readexactly(count)
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def ended(self) -> str:
        """Wait for its end; what it said on stderr comes back.

        Raises: CommandFailed; GitError if a limit was reached.
        """
        status = await self._status()
        # A helper that lives on could hold stderr open; end() sees to that one.
        await asyncio.wait({self._listener}, timeout=GRACE_SECONDS)
        noise = " | ".join(self._lines)
        if status == NOT_FOUND and "not found" in noise:
            raise GitError(
                "git is not installed",
                why="no program of that name is in PATH",
                next_step="install git 2.30 or newer",
            )
        if status != 0:
            raise CommandFailed(self._command, status, noise)
        return noise

    async def end(self) -> None:
        """End the group unless it has ended: SIGTERM, the grace, SIGKILL."""
        if self._process.returncode is None or not self._listener.done():
            _signal(self._process, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._drained()
            _signal(self._process, signal.SIGKILL)
        await self._drained()

    async def _drained(self) -> None:
        # asyncio tells a process's end only after its pipes were read to theirs.
        if self._process.stdout is not None:
            while await self._process.stdout.read(1 << 16):
                pass
        await self._process.wait()
        await asyncio.shield(self._listener)

    async def _status(self) -> int:
        loop = asyncio.get_running_loop()
        deadline = self._started_at + self._limit.seconds
        while True:
            silence = self._heard_at + self._limit.silent_seconds
            try:
                async with asyncio.timeout_at(min(deadline, silence)):
                    return await self._process.wait()
            except TimeoutError:
                if loop.time() >= deadline:
                    raise self._too_slow(f"it took {self._limit.seconds:g} s") from None
                if loop.time() >= self._heard_at + self._limit.silent_seconds:
                    silent = f"it said nothing for {self._limit.silent_seconds:g} s"
                    raise self._too_slow(silent) from None

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                yield
        except TimeoutError:
            raise self._too_slow(f"it wrote nothing for {READ_SECONDS:g} s") from None

    def _too_slow(self, why: str) -> GitError:
        return GitError(
            f"git {self._command} was ended",
            why=why,
            next_step="look at the network and the upstream; the next attempt goes on",
        )

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        loop = asyncio.get_running_loop()
        unfinished = b""
        while block := await self._process.stderr.read(1 << 14):
            self._heard_at = loop.time()
            *lines, unfinished = re.split(rb"[\r\n]", unfinished + block)
            # More than any secret is long, so that none is cut in two before it is found.
            unfinished = unfinished[: 1 << 16]
            for line in lines:
                self._note(line)
        self._note(unfinished)

    def _note(self, line: bytes) -> None:
        """Keep a line: printable, not of git's progress, without credentials, bounded."""
        text = line.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        text = _CREDENTIALS.sub("", text)
        text = "".join(character if character.isprintable() else " " for character in text)
        text = text.strip()
        if text and not _PROGRESS.match(text):
            self._lines.append(text[:NOISE_LINE_CHARACTERS])


def _signal(process: Process, number: signal.Signals) -> None:
    """To the whole group; a group that is gone needs none."""
    with suppress(ProcessLookupError):
        killpg(process.pid, number)
