"""A few faults of each kind on a whole site; `make torture` does all of them, for as long as told.

Each test has a PostgreSQL of its own, which it may stop, and real replicas.
"""

from __future__ import annotations

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from tests.crash.control import duplicates_without_a_guard, revive, world_without_burials
from tests.crash.faults import DYING_STEPS, FAULTS, missing_tools
from tests.crash.oracle import Oracle
from tests.crash.torture import plan, strike
from tests.crash.world import a_world
from tests.processes import ROOT
from tests.tools import is_missing

pytestmark = pytest.mark.slow
SEED = 11


async def test_faults_of_each_kind_leave_every_row_once_and_nothing_behind(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with a_world(tmp_path / "a site", replicas=2) as world:
        oracle = Oracle(world)
        oracle.begin()
        missing = missing_tools(world)
        full = [] if "disk full" in missing else ["disk full"]
        struck = [
            ("pause at write", "answer to COMMIT lost", *full),
            ("kill at record", "byte budget", "server crashes"),
            ("connections exhausted",),
        ]
        for together in struck:
            await strike(world, chance, together)
        assert await oracle.look() == []
    assert oracle.counts.claims > sum(map(len, struck))
    assert oracle.counts.takeovers > 0
    assert oracle.counts.lost > 0
    if not full:
        is_missing(f"all but the full disk passed: {missing['disk full']}")


async def test_the_guard_alone_refuses_a_revived_write_and_without_it_rows_are_doubled(
    tmp_path: Path,
) -> None:
    async with world_without_burials(tmp_path / "a site") as world:
        guarded = await revive(world, "write")
        assert guarded.found == []
        assert guarded.counts.lost > 0
        assert await duplicates_without_a_guard(world) > 0


def test_a_seed_repeats_the_plan_and_every_fault_comes_before_any_comes_again() -> None:
    names = list(FAULTS)
    planned = [list(islice(plan(random.Random(SEED), names), len(names))) for _ in range(2)]
    assert planned[0] == planned[1]
    came: list[str] = []
    for together in planned[0]:
        came += together
    assert sorted(came[: len(names)]) == sorted(names)


def test_somebody_dies_at_every_step_that_the_code_names() -> None:
    """The steps of `harvestd torture` are its actors' own: nothing of a daemon passes there."""
    package = ROOT / "daemon" / "harvestd"
    texts = [
        path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if "torture" not in path.parts and path != package / "database" / "step.py"
    ]
    named = {name for text in texts for name in re.findall(r'await step\("(\w+)"\)', text)}
    assert named == set(DYING_STEPS)
