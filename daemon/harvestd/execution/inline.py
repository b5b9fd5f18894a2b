"""Run a script in this process and event loop: for trusted code."""

from __future__ import annotations

import asyncio

from harvestd.errors import ScriptFailed, ScriptTimedOut
from harvestd.execution.deadlines import Deadlines
from harvestd.execution.executor import Call
from harvestd.execution.printed import capture_prints, tell_printed
from harvestd.execution.strays import Started, ends_processes, started, watch_starts
from harvestd.observing.logs import get_logger
from harvestd.plugin import surroundings
from harvestd.terms import RunKey

log = get_logger()

GRACE_SECONDS = 2.0
"""How long what is cancelled may take to end."""
CANCEL_AGAIN_SECONDS = 0.5


class InlineExecutor:
    """Calls run() in a task of its own, so that one that cannot be cancelled can be left."""

    name = "inline"

    def __init__(self) -> None:
        watch_starts()
        capture_prints()
        self._abandoned: dict[RunKey, set[asyncio.Task[None]]] = {}
        self._deadlines = Deadlines()

    async def run(self, call: Call) -> None:
        """One call.  Nothing that a script raises gets past this as other than an Exception."""
        if call.key in self._abandoned:
            raise ScriptFailed(
                "an earlier attempt of this run goes on in the background",
                why="it swallows asyncio.CancelledError",
                next_step="let CancelledError pass in the script, and restart the daemon",
            )
        strays = Started()
        loop = asyncio.get_running_loop()
        ended_or_late: asyncio.Future[None] = loop.create_future()
        # Not by the task factory: it is for what a script starts, and costs a run 3 µs.
        task = asyncio.Task(_call(call, strays, ended_or_late), loop=loop, name=str(call.key))
        self._deadlines.add(ended_or_late, call.seconds_max)
        try:
            await ended_or_late
        except asyncio.CancelledError:
            # The drain, or a lost lease; whatever run() makes of it.
            await self._end(call, {task, *strays.tasks_left})
            raise
        finally:
            self._deadlines.remove(ended_or_late)
        if not task.done():
            await self._end(call, {task, *strays.tasks_left})
            raise _too_long(call.seconds_max)
        if strays.tasks_left:
            # A library's may be about to end.
            await asyncio.wait(strays.tasks_left, timeout=GRACE_SECONDS)
        left = strays.tasks_left
        if left:
            await self._end(call, left)
        if task.cancelled():
            raise _cancelled_itself()
        task.result()
        for thread in strays.threads_left:
            await asyncio.to_thread(thread.join, GRACE_SECONDS)
        if left or strays.threads_left:
            raise _left_behind(len(left), [thread.name for thread in strays.threads_left])

    async def _end(self, call: Call, tasks: set[asyncio.Task[None]]) -> None:
        """Cancel, again and again for a while; what does not end then is left to itself."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE_SECONDS
        living = tasks
        for task in tasks:
            task.add_done_callback(_take_note)
        while living and loop.time() < deadline:
            for task in living:
                task.cancel()
            try:
                _, living = await asyncio.wait(living, timeout=CANCEL_AGAIN_SECONDS)
            except asyncio.CancelledError:
                continue  # we are at it already
        for task in living:
            self._abandon(call.key, task)

    def _abandon(self, key: RunKey, task: asyncio.Task[None]) -> None:
        kept = self._abandoned.setdefault(key, set())
        kept.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            kept.discard(task)
            if not kept:
                self._abandoned.pop(key, None)

        task.add_done_callback(ended)
        log.error("script_abandoned", reason="it does not end when it is cancelled")


def _take_note(task: asyncio.Task[None]) -> None:
    """What a cancelled task raises is of no interest, and asyncio would complain of it."""
    if not task.cancelled():
        task.exception()


async def _call(call: Call, strays: Started, ended: asyncio.Future[None]) -> None:
    surroundings.set(call.surroundings)
    started.set(strays)
    try:
        result: object = await call.script.run(
            call.env, call.db, call.key.tenant_id, call.window.start, call.window.end
        )
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise ends_processes(error) from error
    finally:
        # Here, not by a callback: whoever waits comes after this step, with which the task ends.
        if not ended.done():
            ended.set_result(None)
        tell_printed(strays.printed)
    if result is not None:
        raise ScriptFailed(
            f"run() returned {type(result).__name__} instead of nothing",
            why="what a script has to say it says through db, progress and exceptions",
            next_step="remove the return value",
        )


def _too_long(seconds_max: float) -> ScriptTimedOut:
    return ScriptTimedOut(
        f"run() took longer than {seconds_max:g} s",
        why="one call of run() is bounded, so that a hung upstream holds no slot for ever",
        next_step="make the window narrower, or set `timeout` in the script",
    )


def _cancelled_itself() -> ScriptFailed:
    return ScriptFailed(
        "run() ended with CancelledError, and nobody had cancelled it",
        why="a task that the script awaited was cancelled, by itself or by the script",
        next_step="catch asyncio.CancelledError where such a task is awaited",
    )


def _left_behind(tasks: int, threads: list[str]) -> ScriptFailed:
    found = [f"{tasks} task{'s' if tasks > 1 else ''}"] if tasks else []
    found += [f"the thread {name}" for name in threads]
    return ScriptFailed(
        f"run() left {' and '.join(found)} behind",
        why="what goes on after its run belongs to nobody: it holds memory and hides its errors",
        next_step="await or join everything that run() starts before it returns",
    )
