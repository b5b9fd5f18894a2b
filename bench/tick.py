"""One tick of a large installation: 100,000 tenants with 5 scripts, one run in a hundred due."""

from __future__ import annotations

import asyncio
import gc
import time
from asyncio import to_thread
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.replica import calls, migrate, seed, seed_runs, with_app, write_no_op_plugins
from bench.scratch import Server, execute, forget_peak, in_child, peak_bytes
from harvestd.database import step
from harvestd.service.app import App

PROBE_SECONDS = 0.001
WITHIN_SECONDS = 60.0
MAKE_DUE = """
UPDATE public.data_source_run SET due_at = now() - interval '1 minute'
WHERE (hashint8(run_no) + {number}) % 100 = 0
"""


@dataclass(frozen=True, slots=True)
class Tick:
    """From the tick to the first claim; memory and the loop's longest absence meanwhile."""

    first_claim_ms: float
    added_mb: float
    """Peak of the resident memory over what it was before; 0 where the kernel does not tell, and
    where what the start had freed was enough."""
    peak_mb: float
    stall_ms: float
    stall_after_ms: float
    """From the first claim until the last run was recorded."""
    busy_ms: float
    """The longest that the loop computed without coming back, whatever else the machine did."""
    runs: int


def measure_ticks(database: Server, *, tenants: int, rounds: int) -> list[Tick]:
    """So many ticks of one replica in a fresh process; only the first one's memory is new."""
    migrate(database)
    seed(database, tenants)
    seed_runs(database, never_ran=False)
    plugins = write_no_op_plugins(
        database.folder / "daily plugins",
        interval="timedelta(days=1)",  # else what a tick ran is due again at the next
    )
    return in_child(_ticks_in_child, database, plugins, rounds)


def _ticks_in_child(database: Server, plugins: Path, rounds: int) -> list[Tick]:
    async def ticks(app: App) -> list[Tick]:
        measured = []
        for number in range(rounds):
            due = MAKE_DUE.format(number=number)
            await to_thread(execute, database.url, due)
            await to_thread(execute, database.admin_url, "CHECKPOINT")
            measured.append(await _tick(app))
        return measured

    return with_app(database, plugins, ticks)


async def _tick(app: App) -> Tick:
    claimed = asyncio.Event()

    async def note_claim(name: str) -> None:
        if name == "claim":
            claimed.set()
            step.hook = None

    while not app.cycles.empty():
        app.cycles.get_nowait()
    gc.collect()
    calls_before = calls.total
    memory_before = psutil.Process().memory_info().rss
    forget_peak()
    probe = _Probe()
    step.hook = note_claim
    began = time.perf_counter()
    app.wanted.ask("a tick of the bench", forced=False)
    async with asyncio.timeout(WITHIN_SECONDS):  # nothing due, or nothing works
        await claimed.wait()
    first_claim = time.perf_counter() - began
    stall = probe.longest_since()
    await app.cycles.get()
    await app.feeder.idle()
    stall_after = probe.longest_since()
    probe.end()
    peak = peak_bytes()
    return Tick(
        first_claim_ms=1e3 * first_claim,
        added_mb=max(0.0, (peak - memory_before) / 1e6),
        peak_mb=peak / 1e6,
        stall_ms=1e3 * stall,
        stall_after_ms=1e3 * stall_after,
        busy_ms=1e3 * probe.busy,
        runs=calls.total - calls_before,
    )


@dataclass(slots=True)
class _Probe:
    """Asks the loop to come back each millisecond; how much later it came is a stall."""

    busy: float = 0.0
    _longest: float = 0.0
    _asked: float = 0.0
    _computed: float = 0.0
    _handle: asyncio.TimerHandle | None = field(default=None)

    def __post_init__(self) -> None:
        self._ask()

    def _ask(self) -> None:
        self._asked, self._computed = time.perf_counter(), time.thread_time()
        self._handle = asyncio.get_running_loop().call_later(PROBE_SECONDS, self._come_back)

    def _come_back(self) -> None:
        self._note()
        self._ask()

    def _note(self) -> None:
        late = time.perf_counter() - self._asked - PROBE_SECONDS
        self._longest = max(self._longest, late)
        self.busy = max(self.busy, time.thread_time() - self._computed)

    def longest_since(self) -> float:
        """The longest stall in seconds since this was last asked, the one under way included."""
        self._note()
        longest, self._longest = self._longest, 0.0
        return longest

    def end(self) -> None:
        """Ask no more."""
        if self._handle is not None:
            self._handle.cancel()
