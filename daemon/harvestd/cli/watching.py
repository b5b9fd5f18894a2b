"""`--watch`: the same answer again and again, on a terminal, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from harvestd.cli.output import UsageError, print_told
from harvestd.errors import Unreachable

SECONDS = 2.0
LEAST_SECONDS = 0.2
MOST_SECONDS = 3600.0
TO_THE_TOP_AND_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def check_watch(seconds: float, *, as_json: bool) -> None:
    """Raise UsageError where nobody could see the screen redrawn."""
    if as_json or not sys.stdout.isatty():
        raise UsageError(
            "--watch redraws a terminal, and there is none" if not as_json else "--watch or --json",
            why="its answer never ends, so that no program could read it",
            next_step="leave --watch out, and ask again as often as you like",
        )
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise UsageError(
            f"--watch {seconds:g} is too often or too seldom",
            why=f"it may be {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds",
            next_step="harvestd status --watch 2",
        )


def redraw(show: Callable[[], int], seconds: float) -> int:
    """``show`` on a cleared screen every so many seconds; 0 after Ctrl-C.

    A database that cannot be reached is said and asked again; other errors end it.
    """
    try:
        while True:
            sys.stdout.write(TO_THE_TOP_AND_CLEAR)
            sys.stdout.flush()
            try:
                show()
            except Unreachable as error:
                print_told("harvestd", error)
            print(f"\nevery {seconds:g} s; Ctrl-C ends it", flush=True)
            time.sleep(seconds)
    except KeyboardInterrupt:
        print()
        return 0
