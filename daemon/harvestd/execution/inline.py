"""Run a script in this process and event loop: for trusted code."""

from __future__ import annotations

import asyncio

from harvestd.errors import ScriptFailed
from harvestd.execution.executor import Call
from harvestd.plugin import surroundings


class InlineExecutor:
    """Calls run() directly, within the attempt's own task."""

    name = "inline"

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
            raise ScriptFailed(
                f"the script raised {type(error).__name__}",
                why="it ends processes, and this process belongs to all tenants",
                next_step="return from run(), or raise an ordinary exception",
            ) from error
        finally:
            surroundings.reset(token)
        if result is not None:
            raise ScriptFailed(
                f"run() returned {type(result).__name__} instead of nothing",
                why="what a script has to say it says through db, progress and exceptions",
                next_step="remove the return value",
            )
