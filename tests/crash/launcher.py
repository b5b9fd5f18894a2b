"""`harvestd` as the chaos starts it: it dies or stops at a named step, and its clock may be wrong.

    python launcher.py run

The hook that production leaves empty is set here, in a process of its own.  CHAOS_FOLDER holds
the orders: an empty file ``kill-at-STEP`` or ``stop-at-STEP`` is for the first process that comes
to that step, which renames it to ``kill-of-PID``; ``clock-PID`` holds the seconds by which the
clocks of that process jumped.
CHAOS_LET_LIVE=1 plants a mistake: whoever buries a replica does not end its backends, and
whoever wakes from an ordered sleep works on for a while before it learns that it is dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harvestd.cli.main import main
from harvestd.database import pool, step
from harvestd.database.statements import load_statements

LATE_SECONDS = 0.5
LETS_LIVE = os.environ.get("CHAOS_LET_LIVE") == "1"
ORDERS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
FOLDER = Path(os.environ["CHAOS_FOLDER"])
beats_from = 0.0


async def obey(name: str) -> None:
    """Carry out an order for this step, if there is one that nobody took yet."""
    global beats_from  # noqa: PLW0603 - the hook is a plain function, and this its one memory
    for order, number in ORDERS.items():
        try:
            (FOLDER / f"{order}-at-{name}").rename(FOLDER / f"{order}-of-{os.getpid()}")
        except FileNotFoundError:
            continue
        os.kill(os.getpid(), number)
        beats_from = time.monotonic() + LATE_SECONDS
    while LETS_LIVE and name == "heartbeat" and time.monotonic() < beats_from:
        await asyncio.sleep(beats_from - time.monotonic())


def jumped_seconds() -> float:
    """By how much the clocks of this process are off."""
    try:
        return float((FOLDER / f"clock-{os.getpid()}").read_text(encoding="ascii") or 0)
    except FileNotFoundError:
        return 0.0


def wrong_clocks() -> None:
    """Python's clock of the day, and the one that goes on while a machine sleeps."""
    now: Callable[[], float] = time.time
    since_boot: Callable[[int], float] = time.clock_gettime

    slept = 0.0

    def clock_gettime(which: int) -> float:
        nonlocal slept
        if which == time.CLOCK_BOOTTIME:
            slept = max(slept, jumped_seconds())  # the kernel never turns it back
            return since_boot(which) + slept
        return since_boot(which)

    time.time = lambda: now() + jumped_seconds()
    time.clock_gettime = clock_gettime


def let_backends_live() -> None:
    """The planted mistake: nobody ends the backends of the dead, or waits for their end."""
    known = load_statements()
    still_bound = "AND activity.backend_start = binding.backend_start"
    assert still_bound in known["free_runs_of_the_dead"], "the mistake no longer fits"
    wrong = {
        **known,
        "end_dead_backends": "SELECT 0 AS ended",
        "free_runs_of_the_dead": known["free_runs_of_the_dead"].replace(still_bound, "AND false"),
        # Whoever leases the seat of a dead one does so too.
        "end_seat_backends": "SELECT $1::text",
    }
    vars(pool)["load_statements"] = lambda: wrong


if __name__ == "__main__":
    step.hook = obey
    wrong_clocks()
    if LETS_LIVE:
        let_backends_live()
    sys.exit(main())
