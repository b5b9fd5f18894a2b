"""One schedule: a seed decides who goes on, who pauses past his lease, who crashes, and when the
clock jumps; then the faults stop, and everything must settle to the truth.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

from harvestd.errors import ScriptFailed
from harvestd.torture.person import TENANT, Operator
from harvestd.torture.process import LEASE, Process
from harvestd.torture.scheduler import Actor
from harvestd.torture.upstream import Upstream
from harvestd.torture.witness import SOURCE
from harvestd.torture.world import World

REPLICAS = ("A", "B", "C")
MOVES = 40
"""Before the faults stop."""
FAULT_SHARE = 0.05
STAY_SHARE = 0.7
"""How often whoever is under way goes on: an attempt is many moves long."""
WEIGHT_UNDER_WAY = 6
WEIGHTS = {"list": 3, "reap_mark": 3, "heartbeat": 1, "operate": 6}
"""How often the others are chosen, by the step at which they wait."""
PAUSED_MOVES = (8, 20)
SETTLE_ROUNDS_MAX = 60
HOME = frozenset({"list", "heartbeat", "reap_mark", "operate"})
"""Where an actor's round begins."""
AMBUSHES = ("claim", "bind", "write", "checkpoint", "commit", "cover", "record", "reap_free")
STRIKES = {
    "claim": ("lease", "rival", "rival"),
    "bind": ("operator", "lease"),
    "reap_free": ("nothing",),
}
"""How, where it is not by the operator or the lease."""
FAILABLE = frozenset({"write", "checkpoint", "bookmark", "commit"})
CLAIMS_MIN = 2
"""A schedule that claimed less has proved nothing: each of the two runs is claimed once."""


@dataclass(slots=True)
class Told:
    """How a schedule went."""

    seed: int
    moves: list[str] = field(default_factory=list)
    claims: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violation: str | None = None

    @property
    def void(self) -> bool:
        """Whether it proves nothing."""
        return self.violation is None and self.claims < CLAIMS_MIN

    @property
    def digest(self) -> str:
        """Equal for schedules that went the same way."""
        return hashlib.sha256("\n".join(self.moves).encode()).hexdigest()[:12]


class Schedule:
    """One seed's."""

    def __init__(self, world: World, seed: int) -> None:
        self.told = Told(seed)
        self._world = world
        self._scheduler = world.scheduler
        self._chance = random.Random(f"moves {seed}")  # noqa: S311 - decides, guards nothing
        self._paused: dict[str, int] = {}
        """Replica → how many moves it still pauses."""
        self._struck: dict[str, str] = {}
        """Paused replica → the actor with whom it goes on."""
        self._last: str | None = None
        self._called: str | None = None
        """Who begins his round next, wherever the chance points."""
        self._ambush = self._chance.choice(AMBUSHES)

    async def run(self) -> Told:
        """All of it; a violation ends it."""
        world, told = self._world, self.told
        world.seen.clear()
        upstream = Upstream(await world.witness.connection.fetchval("SELECT clock_timestamp()"))
        await world.witness.begin(upstream.items)
        await world.helper.add_tenant(TENANT, TENANT)
        await world.helper.set_config(TENANT, SOURCE, "KEY", "value")
        self._scripts = upstream.scripts(world.mutant.append if world.mutant else None)
        # A chance of his own: what he asks for does not change what the others get.
        whim = random.Random(f"operator {told.seed}")  # noqa: S311 - decides, guards nothing
        self._operator = Operator(world, upstream, whim)
        self._names = REPLICAS[: self._chance.choice((2, 2, 3))]
        for name in REPLICAS:
            if name not in world.replicas:
                await world.start(name)
            # Also of one that was declared dead in the schedule before: all begin alive.
            await world.replicas[name].heartbeat.register()
        for name in self._names:
            self._begin(world.replicas[name])
        self._scheduler.begin("operator", self._operator.operate())
        await self._scheduler.settle()
        for _ in range(MOVES):
            await self._move()
            if await self._violated():
                break
        else:
            await self._settle()
        told.claims = await world.witness.claims()
        if told.violation is None:
            await self._scheduler.end(list(self._scheduler.actors))
        return told

    def _begin(self, process: Process) -> None:
        process.scripts = self._scripts
        for name, duty in process.duties().items():
            self._scheduler.begin(name, duty())

    async def _violated(self) -> bool:
        found = await self._world.witness.violations() or self._world.seen
        if found:
            self.told.violation = found[0]
        return bool(found)

    async def _move(self) -> None:
        self._count_down()
        if (victim := self._ambushed()) is not None:
            await self._strike(victim)
        elif self._chance.random() < FAULT_SHARE:
            await self._fault()
        else:
            able = [one for one in self._scheduler.waiting() if one.name[0] not in self._paused]
            if not able:
                self._paused.clear()
                return
            last = next((one for one in able if one.name == self._last), None)
            called, self._called = self._called, None
            if (
                last is None
                or (last.at in HOME and last.name != called)
                or self._chance.random() > STAY_SHARE
            ):
                weights = [WEIGHTS.get(one.at or "", WEIGHT_UNDER_WAY) for one in able]
                [last] = self._chance.choices(able, weights)
            await self._go_on(last)
            return
        await self._scheduler.settle()

    async def _go_on(self, actor: Actor) -> None:
        """Let him go, until all is quiet again."""
        ends = await self._world.witness.doomed() if actor.at == "reap_end" else ()
        self._go(actor)
        await self._scheduler.settle()
        if ends:
            await self._world.notice(ends)
            await self._scheduler.settle()

    def _count_down(self) -> None:
        for name in list(self._paused):
            self._paused[name] -= 1
            if self._paused[name] <= 0:
                del self._paused[name]
                self._last = self._struck.pop(name, self._last)

    def _ambushed(self) -> Actor | None:
        """Who has come to the step at which the seed lies in wait for somebody."""
        found = [
            one
            for one in self._scheduler.waiting()
            if one.at == self._ambush and one.name[0] not in self._paused
        ]
        if not found:
            return None
        self._ambush = self._chance.choice(AMBUSHES)
        return self._chance.choice(found)

    async def _strike(self, victim: Actor) -> None:
        """Hold a replica at the worst moment, and take its run away from it."""
        name = victim.name[0]
        self._paused[name] = self._chance.randint(*PAUSED_MOVES)
        self._struck[name] = victim.name
        how = self._chance.choice(STRIKES.get(victim.at or "", ("operator", "operator", "lease")))
        if how == "lease":
            await self._world.age(2 * LEASE, self._world.replicas[name])
            self._last = self._called = f"{self._rival(name)} reaps"
        elif how == "rival":
            self._last = self._called = victim.name.replace(name, self._rival(name), 1)
        elif how == "operator":
            self._operator.disturbing = True
            operator = self._scheduler.actors["operator"]
            if operator.waits:
                self._go(operator)
        kind = {"lease": "pause", "operator": "operator"}.get(how, "short pause")
        self._note_fault(kind, f"{name} at {victim.at}")

    def _rival(self, name: str) -> str:
        """Another replica, who is to use the moment."""
        return self._chance.choice([one for one in self._names if one != name])

    def _note_fault(self, kind: str, where: str) -> None:
        self.told.faults[kind] += 1
        self.told.moves.append(f"fault: {kind} {where}".rstrip())

    def _go(self, actor: Actor, error: Exception | None = None) -> None:
        self._last = actor.name
        self.told.moves.append(f"{actor.name}: {actor.at}{' fails' if error else ''}")
        actor.let_go(error)

    async def _fault(self) -> None:
        kind = self._chance.choice(
            (
                *("pause", "pause", "pause", "short pause", "crash", "crash", "cut", "cut one"),
                *("clock forward", "clock forward a little", "clock back", "script", "leave"),
            )
        )
        name = self._chance.choice(self._names)
        # Where nothing is under way a fault has nothing to break.
        busy = sorted(
            {one.name[0] for one in self._scheduler.waiting() if one.at not in HOME}
            - {"o"}
            - set(self._paused)
        )
        if not kind.startswith("clock"):
            if not busy:
                return
            name = self._chance.choice(busy)
        process = self._world.replicas[name]
        if kind in ("pause", "short pause"):
            self._paused[name] = self._chance.randint(*PAUSED_MOVES)
            await self._world.age(2 * LEASE if kind == "pause" else LEASE / 2, process)
        elif kind == "crash":
            self._begin(await self._world.kill(process))
        elif kind == "leave":
            self.told.moves.append(f"{name} leaves")
            self._scheduler.begin(f"{name} leaves", process.leave())
            await self._scheduler.settle()
        elif kind in ("cut", "cut one"):
            pids = process.database.pids()
            if kind == "cut one":
                pids = self._chance.sample(pids, min(1, len(pids)))
            await self._world.cut(pids)
        elif kind == "script":
            failable = [one for one in self._scheduler.waiting() if one.at in FAILABLE]
            if not failable:
                return
            self._go(self._chance.choice(failable), ScriptFailed("the upstream is away"))
            name = ""
        else:
            span = {"clock forward": 2 * LEASE, "clock back": -24 * LEASE}.get(kind, LEASE / 2)
            await self._world.age(span)
            name = ""
        self._note_fault(kind, name)

    async def _settle(self) -> None:
        """Faults stop.  Everything must come to rest, with the upstream's truth in the tables."""
        world = self._world
        self._paused.clear()
        self._struck.clear()
        self.told.moves.append("faults stop")
        await world.witness.forget([one.heartbeat.replica_id for one in world.replicas.values()])
        workers = [name for name in sorted(self._scheduler.actors) if name != "operator"]
        # Whoever is under way first learns what became of him, and whoever waits gets on.
        for name in workers * 2:
            if not self._is_home(name) and not await self._round(name):
                return
        await world.helper.set_config(TENANT, SOURCE, "KEY", "value")
        await world.helper.resume(TENANT)
        left: list[str] = []
        for _ in range(SETTLE_ROUNDS_MAX):
            await world.helper.trigger(TENANT, SOURCE, None)
            for name in workers:
                if not await self._round(name):
                    return
                left = await world.witness.unsettled()
                away = [one for one in self._scheduler.actors if not self._is_home(one)]
                if not left and not away and not self._scheduler.ghosts:
                    return
        self.told.violation = f"it did not settle: {'; '.join(left or away)}"

    def _is_home(self, name: str) -> bool:
        actor = self._scheduler.actors[name]
        return actor.ended or actor.at in HOME

    async def _round(self, name: str) -> bool:
        """Let one actor go on until he is back where his round begins, or waits for another."""
        actor = self._scheduler.actors[name]
        while actor.waits:
            await self._go_on(actor)
            if await self._violated():
                return False
            if actor.at in HOME:
                break
        return True
