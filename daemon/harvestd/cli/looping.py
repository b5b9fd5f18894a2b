"""Running what a script runs in, and ending although something of a script does not.

`asyncio.run` waits for every task, and the interpreter for every thread: a script that swallows
its cancellation, or a request of its own without a time limit, would keep the process for ever.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

LEFT_SECONDS = 2.0
"""How long what is left may take to end."""

T = TypeVar("T")


class EndedBySignal(SystemExit):
    """What a signal handler of ours raises, wherever the process is."""


def run_beside_scripts(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`; what does not end with ``main`` is left behind after LEFT_SECONDS.

    Nor does SystemExit in a callback (``loop.call_soon(sys.exit)``) end it: that is a script's, and
    comes out of the loop, since only a task's can be caught where it is raised.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        task = runner.get_loop().create_task(main)
        while True:
            try:
                return runner.run(_end_of(task))
            except SystemExit as error:
                if task.done() or isinstance(error, EndedBySignal):
                    raise
                # Here, since it takes the settings along, and `harvestd --help` is to be quick.
                from harvestd.observing.logs import get_logger

                get_logger().error("script_exit_ignored")
    finally:
        runner.run(_end_tasks())
        runner.get_loop().close()  # not the runner: it would wait for all of them again


async def _end_of(task: asyncio.Task[T]) -> T:
    return await task


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()


def end_process(code: int) -> int:
    """The exit code, for `sys.exit`; where a thread does not end, this ends the process itself."""
    deadline = time.monotonic() + LEFT_SECONDS
    others = [thread for thread in threading.enumerate() if not thread.daemon]
    others.remove(threading.main_thread())
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    return code
