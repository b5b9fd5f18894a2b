"""The command line as a person meets it: child processes, pipes, terminals, signals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
WITHIN = 60.0
"""Seconds after which a command that a test waits for hangs."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and all that it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, which must be one JSON document."""
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    """Ours without settings of harvestd and git, and with the daemon of this checkout."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HARVESTD_", "GIT_", "PYTHON"))
    }
    paths = [str(CHECKOUT / "daemon"), os.environ.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | more


def command(*arguments: str) -> list[str]:
    """``harvestd ARGUMENTS`` by this interpreter."""
    return [sys.executable, "-m", "harvestd", *arguments]


async def harvestd(
    *arguments: str,
    url: str | None = None,
    given: str | bytes = b"",
    settings: Mapping[str, str] | None = None,
    cwd: Path = CHECKOUT,
) -> Done:
    """Run a command to its end; ``given`` is its standard input."""
    more = {f"HARVESTD_{name}": value for name, value in (settings or {}).items()}
    if url is not None:
        more["HARVESTD_DATABASE_URL"] = url
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
        cwd=cwd,
    )
    done = await ended(process, given.encode() if isinstance(given, str) else given)
    assert "Traceback" not in done.err, done.err
    return done


async def shell(line: str, cwd: Path) -> Done:
    """A line pasted into a shell."""
    process = await asyncio.create_subprocess_shell(
        line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=cwd,
    )
    return await ended(process)


async def ended(process: asyncio.subprocess.Process, given: bytes | None = None) -> Done:
    """Let a process end by itself, in time."""
    try:
        async with asyncio.timeout(WITHIN):
            out, err = await process.communicate(given)
    finally:
        await end(process)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that is still there, and collect it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Talk:
    """A command under way whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, text: str) -> str:
        """Read stderr until a line holds ``text``; that line."""
        assert self.process.stderr is not None
        async with asyncio.timeout(WITHIN):
            while line := (await self.process.stderr.readline()).decode():
                self.said += line
                if text in line:
                    return line
        raise AssertionError(f"it ended without saying {text!r}:\n{self.said}")

    async def ended(self) -> int:
        """Read the rest and wait; the exit code."""
        async with asyncio.timeout(WITHIN):
            _, err = await self.process.communicate()
        self.said += err.decode()
        assert "Traceback" not in self.said, self.said
        assert self.process.returncode is not None
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def talking(
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    program: Sequence[str] | None = None,
) -> AsyncIterator[Talk]:
    """``harvestd ARGUMENTS`` or another ``program`` under way, killed if it is still there."""
    more = {f"HARVESTD_{name}": value for name, value in (settings or {}).items()}
    process = await asyncio.create_subprocess_exec(
        *(program or command(*arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
        cwd=CHECKOUT,
    )
    try:
        yield Talk(process)
    finally:
        await end(process)


class Terminal:
    """A command on a terminal of its own: stdin, stdout and stderr are that terminal."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self.said = ""

    async def until(self, text: str) -> None:
        """Wait until ``text`` is on the screen."""
        async with asyncio.timeout(WITHIN):
            while text not in self.said:
                if not await self._read():
                    raise AssertionError(f"it ended without saying {text!r}:\n{self.said}")

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(WITHIN):
            while await self._read():
                pass
            _, status = await asyncio.to_thread(os.waitpid, self._pid, 0)
        self._pid = 0
        assert "Traceback" not in self.said, self.said
        return os.waitstatus_to_exitcode(status)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    async def _read(self) -> bool:
        try:
            part = await asyncio.to_thread(os.read, self._descriptor, 65536)
        except OSError:  # Linux says EIO when the other side is gone
            part = b""
        self.said += part.decode(errors="replace")
        return bool(part)

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)


@contextmanager
def terminal(*arguments: str, settings: Mapping[str, str]) -> Iterator[Terminal]:
    """``harvestd ARGUMENTS`` on a terminal."""
    more = environment(TERM="xterm", COLUMNS="100", NO_COLOR="1")
    more |= {f"HARVESTD_{name}": value for name, value in settings.items()}
    line = command(*arguments)
    pid, descriptor = pty.fork()
    if pid == 0:  # the child: nothing but exec, since the parent has threads
        os.chdir(CHECKOUT)
        os.execve(line[0], line, more)  # noqa: S606 - on purpose without a shell
    screen = Terminal(pid, descriptor)
    try:
        yield screen
    finally:
        screen.close()
