"""Everything that is done to a world.  Each waits until it had its effect; `World.heal` mends."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Coroutine
from functools import partial

from tests.crash import on_processes, on_surroundings
from tests.crash.world import FAKETIME, World

Fault = Callable[[World, random.Random], Coroutine[None, None, None]]

SLEEPING_STEPS = ("heartbeat", "claim", *on_processes.HOLDING_STEPS)
DYING_STEPS = (
    *SLEEPING_STEPS,
    *("give_back", "leave", "schema_finished"),
    *("reap_mark", "reap_end", "reap_free", "reap_bury"),
)

FAULTS: dict[str, Fault] = {
    "kill at random": on_processes.kill_at_random,
    **{f"kill at {step}": partial(on_processes.kill_at, step) for step in DYING_STEPS},
    "pause at random": on_processes.pause,
    **{f"pause at {step}": partial(on_processes.stop_at, step) for step in SLEEPING_STEPS},
    "server restarts fast": partial(on_surroundings.restart_server, signal.SIGINT),
    "server crashes": partial(on_surroundings.restart_server, signal.SIGQUIT),
    "connections cut": partial(on_surroundings.cut, "end"),
    "connections reset": partial(on_surroundings.cut, "reset"),
    "connections stalled": on_surroundings.stall,
    "connections refused": on_surroundings.refuse,
    "network slow": on_surroundings.slow,
    "byte budget": on_surroundings.spend_budget,
    "COMMIT lost": partial(on_surroundings.cut_commit, "before"),
    "answer to COMMIT lost": partial(on_surroundings.cut_commit, "after"),
    "disk full": on_surroundings.fill_table_disk,
    "disk of the log full": on_surroundings.fill_log_disk,
    "disk of the WAL full": on_surroundings.fill_wal_disk,
    "connections exhausted": on_surroundings.take_connections,
    "replica's clock jumps": on_surroundings.jump_clock,
    "replica's clock faked": on_surroundings.fake_clock,
    "server's clock set ahead": partial(on_surroundings.set_server_clock, 1),
    "server's clock set back": partial(on_surroundings.set_server_clock, -1),
    "SIGTERM": partial(on_processes.terminate, "once"),
    "second SIGTERM": partial(on_processes.terminate, "twice"),
    "SIGTERM in start-up": partial(on_processes.end_in_start, signal.SIGTERM),
    "kill in start-up": partial(on_processes.end_in_start, signal.SIGKILL),
    "SIGHUP storm": on_processes.hang_up,
    "plugin edited": on_processes.edit_plugin,
    "configuration deleted": partial(on_processes.take, "configuration"),
    "tenant deleted": partial(on_processes.take, "tenant"),
    "kill in a migration": on_processes.kill_in_migration,
}

TOGETHER = {name for name in FAULTS if name.startswith(("kill at", "COMMIT", "byte", "network"))}
"""Those that may come two at a time: one replica is left to see to the rest."""


def missing_tools(world: World) -> dict[str, str]:
    """Faults that cannot be had here, and why."""
    missing: dict[str, str] = {}
    if not world.disks:
        full = [name for name in FAULTS if name.startswith("disk")]
        missing |= dict.fromkeys(full, "mounting a tmpfs needs root")
    if not FAKETIME:
        missing["replica's clock faked"] = "libfaketime is not installed (apt-get install faketime)"
    return missing
