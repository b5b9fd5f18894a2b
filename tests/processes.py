"""harvestd as its users start it: a child process, real signals, nothing mocked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHIN = 30.0
LOOK_SECONDS = 0.02


def environment(*, root: object = ROOT, **settings: object) -> dict[str, str]:
    """The environment of a child: no HARVESTD_* of ours but these (lower case, no prefix).

    ``root``: the checkout that it runs from.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HARVESTD_")}
    given = {f"HARVESTD_{name.upper()}": str(value) for name, value in settings.items()}
    return inherited | given | {"PYTHONPATH": f"{root}/daemon"}


class Daemon:
    """A running `harvestd run`; ``lines`` is what it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        if self.process.stderr is None:
            return  # it logs to a file
        async for line in self.process.stderr:
            self.lines.append(line.decode(errors="replace").rstrip())

    async def logged(self, text: str, *, times: int = 1) -> None:
        """Wait until ``text`` stands in that many lines of the log."""

        async def seen() -> bool:
            if self.process.returncode is not None:
                raise AssertionError("the daemon ended:\n" + "\n".join(self.lines[-30:]))
            return sum(text in line for line in self.lines) >= times

        await wait_until(seen, f"{text!r} in the log:\n" + "\n".join(self.lines[-10:]))

    async def kill(self) -> None:
        """kill -9: no drain, no goodbye."""
        self.process.kill()
        await self.process.wait()
        await self._reading

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it as an operator does; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(WITHIN):
            code = await self.process.wait()
        await self._reading
        return code


@asynccontextmanager
async def harvestd_run(*, root: object = ROOT, **settings: object) -> AsyncIterator[Daemon]:
    """`harvestd run` with these settings; killed at the end if it still lives."""
    defaults: dict[str, object] = {
        "http_address": "127.0.0.1:0",
        "log_format": "json",
        "lease_seconds": 3,
        "interval_seconds": 0.5,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "harvestd",
        "run",
        env=environment(root=root, **(defaults | settings)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    daemon = Daemon(process)
    try:
        yield daemon
    finally:
        if process.returncode is None:
            await daemon.kill()


async def wait_until(
    condition: Callable[[], Awaitable[object]],
    what: str,
    *,
    within: float = WITHIN,
    every: float = LOOK_SECONDS,
) -> None:
    """Look at real state until ``condition`` holds, or fail with ``what``."""
    try:
        async with asyncio.timeout(within):
            while not await condition():
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None
