"""What a script starts: tasks and threads are known by the run that started them.

asyncio and threading tell nobody who started what, so both are asked at the one place where
they start anything: the loop's task factory, and `Thread.start`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

from harvestd.errors import ScriptFailed

# Workers of executors stay for whoever comes next, by design; asyncio waits for children in one.
NOBODYS = ("asyncio", "uvloop", "ThreadPoolExecutor-")


class Started:
    """The tasks and threads that one call of run() started, and what it printed."""

    __slots__ = ("_tasks", "_threads", "printed")

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: WeakSet[threading.Thread] | None = None  # most runs start none
        self.printed = ""
        """What it printed since the last end of a line."""

    def note_task(self, task: asyncio.Task[Any]) -> None:
        """It was started just now."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def note_thread(self, thread: threading.Thread) -> None:
        """It was started just now."""
        if self._threads is None:
            self._threads = WeakSet()
        self._threads.add(thread)

    @property
    def tasks_left(self) -> set[asyncio.Task[Any]]:
        """The tasks that have not ended."""
        return {task for task in self._tasks if not task.done()}

    @property
    def threads_left(self) -> list[threading.Thread]:
        """The threads that have not ended."""
        return [
            thread
            for thread in self._threads or ()
            if thread.is_alive() and not thread.name.startswith(NOBODYS)
        ]


started: ContextVar[Started | None] = ContextVar("harvestd_started", default=None)
"""Set within a script, and inherited by its tasks."""


def watch_starts() -> None:
    """From now on this loop's tasks and this process's threads are noted in `started`.

    And a script reaches no others: who cancels all tasks before he ends, or stops the loop, as a
    program of his own would, means those that he started.
    """
    loop = asyncio.get_running_loop()
    loop.set_task_factory(_make_task)
    for name in ("stop", "set_task_factory"):
        setattr(loop, name, partial(_refuse_scripts, name, getattr(loop, name)))
    threading.Thread.start = _start  # type: ignore[assignment, method-assign]
    asyncio.all_tasks = partial(_all_tasks, loop)


def ends_processes(error: BaseException) -> ScriptFailed:
    """What becomes of SystemExit, KeyboardInterrupt and GeneratorExit of a script."""
    return ScriptFailed(
        f"the script raised {type(error).__name__}",
        why="it ends processes, and this process belongs to all tenants",
        next_step="return from run(), or raise an ordinary exception",
    )


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    context = options.get("context")
    of_script = context.get(started) if context is not None else started.get()
    if of_script is None:
        return asyncio.Task(coro, loop=loop, **options)
    parent = asyncio.current_task(loop)
    name = parent.get_name() if parent is not None else None  # for whoever asks what blocks
    task = asyncio.Task(_Contained(coro), loop=loop, name=name, **options)
    of_script.note_task(task)
    return task


class _Contained(Coroutine[Any, Any, Any]):
    """asyncio hands SystemExit of any task to the loop, which ends: not for a script's tasks.

    No coroutine function: cancelled before its first step, it would never await the inner one.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise ends_processes(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._coro.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise ends_processes(raised) from raised

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Any:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # cr_frame and the like, for whoever looks at the task


_every_task = asyncio.tasks.all_tasks


def _all_tasks(
    ours: asyncio.AbstractEventLoop, loop: asyncio.AbstractEventLoop | None = None
) -> set[asyncio.Task[Any]]:
    every = _every_task(loop)
    of_script = started.get()
    if of_script is None or (loop or asyncio.get_running_loop()) is not ours:
        return every
    return every & {*of_script.tasks_left, asyncio.current_task(ours)}


def _refuse_scripts(name: str, call: Callable[..., None], *arguments: object) -> None:
    if started.get() is not None:
        raise ScriptFailed(
            f"the script called {name}() of the event loop",
            why="the loop belongs to all tenants",
            next_step="leave it out; to end a run, return from run()",
        )
    call(*arguments)


_thread_start = threading.Thread.start


def _start(thread: threading.Thread) -> None:
    _thread_start(thread)
    of_script = started.get()
    if of_script is not None:
        of_script.note_thread(thread)
