"""Slots: the right to run one attempt now, of the data source where that is limited, and of all.

The tenant's own limit is its turn's (`turn.py`).  Tenants that wait take turns, however many runs
each has.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

from harvestd.observing import metrics

TENANTS_PER_SLOT = 4
"""So many tenants are in hand, or wait for a narrow limit: enough to keep every slot busy."""
SUSPECTS = "suspects/"  # no source is named so
SUSPECT_SECONDS = 5.0
"""A script that ends its process mostly does it at once; and one that works for hours must not keep
all those waiting whose holder died with it."""


class Slots:
    """``runs_max`` slots, handed to the tenants that wait one after the other."""

    def __init__(self, runs_max: int, freed: Callable[[], None] | None = None) -> None:
        self.runs_max = runs_max
        self._freed = freed
        """Called when a slot is given back, after whoever is next has it."""
        self._free = runs_max
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Whoever is next stands first; who was given a slot and wants more goes to the end."""

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self.runs_max - self._free

    @property
    def room(self) -> int:
        """How many more tenants may wait without taking the places of those that need none."""
        return max(0, TENANTS_PER_SLOT * self.runs_max - len(self._waiting))

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for one."""
        return bool(self._waiting)

    def take_free(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        return True

    async def take(self, tenant_id: str) -> None:
        """Take a slot; waits for a free one.  Cancelled, it has taken none."""
        if self.take_free():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant_id, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back()  # the slot was handed over in the moment of the cancellation
            else:
                self._forget(tenant_id, future)
            raise

    def give_back(self) -> None:
        """Hand the slot to the tenant whose turn it is, and of it to whoever waits longest."""
        while self._waiting:
            tenant_id, queue = next(iter(self._waiting.items()))
            future = queue.popleft()
            if queue:
                self._waiting.move_to_end(tenant_id)
            else:
                del self._waiting[tenant_id]
            if not future.done():
                future.set_result(None)
                break
        else:
            self._free += 1
        if self._freed is not None:
            self._freed()

    def _forget(self, tenant_id: str, future: asyncio.Future[None]) -> None:
        queue = self._waiting.get(tenant_id, deque())
        if future in queue:  # else `give_back` passed it over already
            queue.remove(future)
            if not queue:
                del self._waiting[tenant_id]


class Taken:
    """The slots of one attempt, to be given back."""

    __slots__ = ("_slots",)

    def __init__(self, slots: tuple[Slots, ...]) -> None:
        self._slots = slots

    def give_back(self) -> None:
        """Free for others; a second time nothing."""
        slots, self._slots = self._slots, ()
        for one in reversed(slots):
            one.give_back()

    def give_back_first(self) -> None:
        """Free the first of them, if they are still taken."""
        if self._slots:
            first, *rest = self._slots
            self._slots = tuple(rest)
            first.give_back()


class Limits:
    """The slots of all attempts, and those of data sources that have a limit of their own."""

    def __init__(self, runs_max: int, source_runs_max: Mapping[str, int]) -> None:
        self.runs_max = runs_max
        self._all = Slots(runs_max)
        self._usual = (self._all,)
        # Of the runs whose holder died only one may be what killed it: side by side, the
        # innocent would die with it again and again.  So each is alone in its first seconds.
        self.narrow_freed: Callable[[], None] = lambda: None
        """Called when more tenants may wait for a narrow limit."""
        self._narrow = {
            name: Slots(most, self._tell_freed)
            for name, most in {SUSPECTS: 1, **source_runs_max}.items()
        }
        self.tenants_max = TENANTS_PER_SLOT * (
            runs_max + sum(slots.runs_max for slots in self._narrow.values())
        )
        """In hand at once.  However many wait for narrow limits, the rest keep all slots busy."""
        metrics.RUNS_IN_PROGRESS.set_function(lambda: self._all.taken)

    async def take(self, source: str, tenant_id: str, *, suspect: bool) -> Taken:
        """The right to run one attempt of ``source``; waits for it.

        Cancelled, it has taken none.
        """
        needed = self._needed(source, suspect)
        for at, slots in enumerate(needed):
            try:
                if not slots.take_free():
                    await slots.take(tenant_id)
            except BaseException:
                Taken(needed[:at]).give_back()
                raise
        taken = Taken(needed)
        if suspect:
            asyncio.get_running_loop().call_later(SUSPECT_SECONDS, taken.give_back_first)
        return taken

    def wanted(self, source: str, *, suspect: bool) -> bool:
        """Whether somebody could use the slot of an attempt of ``source``."""
        return any(slots.wanted for slots in self._needed(source, suspect))

    def crowded(self, source: str, *, suspect: bool) -> str | None:
        """The narrow limit that an attempt needs, and for which enough tenants wait."""
        needed = self._narrow_for(source, suspect)
        return next((name for name in needed if not self._narrow[name].room), None)

    def room(self, narrow: str) -> int:
        """How many more tenants may wait for a narrow limit."""
        return self._narrow[narrow].room

    def _tell_freed(self) -> None:
        self.narrow_freed()

    def _needed(self, source: str, suspect: bool) -> tuple[Slots, ...]:
        narrow = self._narrow_for(source, suspect)
        return (*(self._narrow[name] for name in narrow), self._all) if narrow else self._usual

    def _narrow_for(self, source: str, suspect: bool) -> tuple[str, ...]:
        needed = (SUSPECTS,) if suspect else ()
        return (*needed, source) if source in self._narrow else needed
