"""A thread that looks whether the event loop still turns, since a blocked loop cannot tell.

A script that never awaits stops every tenant of this process, and its heartbeat.  At two thirds
of a lease the process ends itself: others take its runs at one lease, and the fence would refuse
what it wrote then.  What blocked it is in the log, and in a file that the next start reports.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from harvestd.observing.logs import get_logger

log = get_logger()

LAST_WORDS = "last_words"
ENDED_BY_WATCHDOG = 70
"""The exit code: EX_SOFTWARE of sysexits.h."""
LOOK_SECONDS = 0.25
SAY_AFTER_SECONDS = 5.0
FRAMES_MAX = 20


class Watchdog:
    """Watches the running loop from a thread, until `stop`."""

    def __init__(
        self,
        folder: Path,
        *,
        end_after_seconds: float,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._words = folder / LAST_WORDS
        self._end_after = end_after_seconds
        self._say_after = min(SAY_AFTER_SECONDS, end_after_seconds / 2)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._turned = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch; called from the loop."""
        self._turn()
        self._thread.start()

    def stop(self) -> None:
        """End the thread; called from the loop."""
        self._stopped.set()
        self._thread.join()

    def _turn(self) -> None:
        if not self._stopped.is_set():
            self._turned.set()
            self._loop.call_later(LOOK_SECONDS / 2, self._turn)

    def _watch(self) -> None:
        # Looks are counted, not seconds: while the whole process is stopped none goes by.
        looks, said = 0, False
        while not self._stopped.wait(LOOK_SECONDS):
            if self._turned.is_set():
                self._turned.clear()
                looks, said = 0, False
                continue
            looks += 1
            seconds = looks * LOOK_SECONDS
            if not said and seconds >= self._say_after:
                said = True
                self._say(seconds)
            if seconds >= self._end_after:
                self._say(seconds)
                self._end(ENDED_BY_WATCHDOG)

    def _say(self, seconds: float) -> None:
        """What blocks, as far as a look at the loop's thread tells; no values, only places."""
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else "no task"
        frame = sys._current_frames().get(self._loop_thread)
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
        places = [f"{at.filename}:{at.lineno} {at.name}" for at in stack[:FRAMES_MAX]]
        # The file first: of the two it survives a log that blocks.
        words = {"at": datetime.now(UTC).isoformat(), "task": name, "seconds": seconds}
        try:
            self._words.parent.mkdir(parents=True, exist_ok=True)
            self._words.write_text(json.dumps(words | {"stack": places}), encoding="utf-8")
        except OSError:
            pass  # a full disk must not keep the process from ending
        log.error("loop_blocked", task=name, seconds=seconds, stack=places)


def report_last_words(folder: Path) -> None:
    """Log what blocked the process before this one, once."""
    path = folder / LAST_WORDS
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        log.error(
            "last_words_found",
            at=words["at"],
            task=words["task"],
            seconds=words["seconds"],
            stack=words["stack"],
        )
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.error("last_words_found", at=None, task=None, seconds=None, stack=[repr(error)])
