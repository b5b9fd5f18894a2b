"""Run a script in this process and event loop: for trusted code."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from harvestd.errors import ScriptFailed
from harvestd.execution.executor import Call
from harvestd.plugin import surroundings


class InlineExecutor:
    """Calls run() directly, within the attempt's own task."""

    name = "inline"

    def __init__(self) -> None:
        asyncio.get_running_loop().set_task_factory(_make_task)

    async def run(self, call: Call) -> None:
        """One call.  Nothing that a script raises gets past this as other than an Exception."""
        token = surroundings.set(call.surroundings)
        try:
            result: object = await call.script.run(
                call.env, call.db, call.tenant_id, call.window.start, call.window.end
            )
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            # SystemExit, KeyboardInterrupt and GeneratorExit would end the daemon.
            raise _exits(error) from error
        finally:
            surroundings.reset(token)
        if result is not None:
            raise ScriptFailed(
                f"run() returned {type(result).__name__} instead of nothing",
                why="what a script has to say it says through db, progress and exceptions",
                next_step="remove the return value",
            )


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """asyncio hands SystemExit of any task to the loop, which ends: not for a script's tasks."""
    if surroundings.get(None) is not None:
        coro = _contained(coro)
    return asyncio.Task(coro, loop=loop, **options)


async def _contained(coro: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt) as error:
        raise _exits(error) from error


def _exits(error: BaseException) -> ScriptFailed:
    return ScriptFailed(
        f"the script raised {type(error).__name__}",
        why="it ends processes, and this process belongs to all tenants",
        next_step="return from run(), or raise an ordinary exception",
    )
