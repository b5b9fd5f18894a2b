"""Whatever happens to a run, and in whatever order, its row says what a plain model says.

Hypothesis chooses the acts; each goes through the code and the statements of production, on real
tables, and after each the row is compared with the model (life.py).  At each end `verify` finds
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from harvestd.database.pool import Database
from harvestd.database.statements import load_statements
from harvestd.service.acts import RunsChosen
from harvestd.service.verifying import Fault, verify
from harvestd.terms import Window
from tests.builders import a_tenant
from tests.runs.attempting import Attempts
from tests.runs.life import HOURS, NOW, Life
from tests.runs.living import HOUR, World

TABLES = (
    "public.tenant",
    "public.data_source_run",
    "harvestd.run_history",
    "harvestd.bookmark",
    "harvestd.replica",
)
SEEN = """
    SELECT *, status::text AS word, due_at <= now() AS due, not_before > now() AS waiting
    FROM public.data_source_run WHERE tenant_id = 'acme'
"""
OTHERS = "SELECT xmin, * FROM public.data_source_run WHERE tenant_id <> 'acme'"
OUTCOMES = ("completed", "failed", "timed_out", "waiting until", "waiting", "yielded", "cancelled")
hours = st.integers(-24, HOURS)
names = st.sampled_from(["one", "two"])

HAPPENS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "cycle": (),
    "heartbeat": (),
    "lose_the_answer": (),
    "die": (names,),
    "leave": (names,),
    "claim_in_vain": (names, st.integers(0, 1)),
    "reset": (),
    "backfill": (hours, st.integers(1, 40)),
    "set_date_by_hand": (st.one_of(st.none(), hours, st.just(NOW)),),
    "set_status_by_another_program": (st.sampled_from(["RUNNING", "COMPLETED", "FAILED"]),),
    "trigger": (),
    "pause_or_resume": (),
    "configure": (st.sampled_from(["1", "2"]),),
    "remove_configuration": (),
    "remove_tenant": (st.booleans(),),
    "change_plugin": (),
}
ATTEMPT: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "claim": (names,),
    "cover": (),
    "checkpoint": (st.integers(1, 7),),
    "end": (st.sampled_from(OUTCOMES),),
}
LIVES = int(os.environ.get("HARVEST_TEST_LIVES", "20"))
"""Of forty acts each."""
OFTEN = 3
"""How much likelier a step of an attempt is, or what brings one about: hardly one would begin."""


class LifeOfARun(Attempts):
    """What people, the application and a cycle do, and what must hold after each act."""

    @initialize()
    def begin(self) -> None:
        self.life = Life()
        self.highest: dict[int, int] = {}
        for table in TABLES:
            self.world.do(self.world.sql.execute(f"DELETE FROM {table}"))
        for one in self.world.replicas.values():
            self.world.do(one.born())
        for tenant_id in ("acme", "globex"):
            self.world.do(a_tenant(self.world.url, tenant_id, {"probe": {"KEY": "1"}}))
        self.script = replace(self.world.script, content_hash=self.life.plugin)
        self.cycle()
        self.others = self.world.do(self.world.sql.fetch(OTHERS))

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        """One rule, since hypothesis leaves whole rules out of an example: no claim, no life."""
        name = data.draw(st.sampled_from([*HAPPENS, *OFTEN * self._likely()]))
        strategies = (HAPPENS | ATTEMPT)[name]
        getattr(self, name)(*(data.draw(one) for one in strategies))

    def _likely(self) -> list[str]:
        if any(self._in_hand()):
            return ["cover", "checkpoint", "end", "cover", "checkpoint", "end", "die"]
        if self.life.listed:
            return ["claim"] * len(HAPPENS)
        return ["configure", "cycle", "trigger", *(["pause_or_resume"] if self.life.paused else [])]

    def cycle(self) -> None:
        enrolment, scripts = self.world.enrolment, {self.script.name: self.script}
        everything = self.life.plugin_changed
        self.world.do(enrolment.wake_changed(scripts, everything=everything))
        self.world.do(enrolment.apply(scripts, everything=everything))
        self.world.do(enrolment.wake())
        self.life.cycle()
        replica_id = self.world.replicas["one"].claims.replica_id
        assert (self.world.do(self.world.listed(replica_id)) is not None) == self.life.listed

    # What people and the application do

    def reset(self) -> None:
        self.world.do(self.world.acts.reset("acme", None, None))
        self.life.reset()

    def backfill(self, start: int, width: int) -> None:
        end = min(start + width, HOURS + 1)
        window = Window(self.world.origin + start * HOUR, self.world.origin + end * HOUR)
        self.world.do(self.world.acts.backfill(RunsChosen("acme", None, None), window))
        self.life.backfill(start, end)

    def set_date_by_hand(self, date: int | None) -> None:
        moment = None if date is None else self.world.at(date)
        change = "last_fetched_data_date = $1"
        self._by_hand(f"UPDATE data_source_run SET {change} WHERE tenant_id = 'acme'", moment)
        self.life.set_date(date)

    def set_status_by_another_program(self, status: str) -> None:
        change = 'status = ($1::text)::"DataSourceRunStatus"'
        self._by_hand(f"UPDATE data_source_run SET {change} WHERE tenant_id = 'acme'", status)
        self.life.set_status(status)

    def trigger(self) -> None:
        self.world.do(self.world.acts.trigger("acme", None, None))
        self.life.trigger()

    def pause_or_resume(self) -> None:
        if self.life.paused:
            self.world.do(self.world.acts.resume("acme"))
            self.life.resume()
        elif self.life.tenant:
            self.world.do(self.world.acts.pause("acme"))
            self.life.pause()

    def configure(self, value: str) -> None:
        """The tenant too, if it was removed."""
        self.world.do(self.world.acts.add_tenant("acme", "acme"))
        self.world.do(self.world.acts.set_config("acme", "probe", "KEY", value))
        self.life.tenant = True
        self.life.configure(configured=True)

    def remove_configuration(self) -> None:
        self.world.do(self.world.acts.unset_config("acme", "probe", None))
        self.life.configure(configured=False)

    def remove_tenant(self, with_runs: bool) -> None:
        self._by_hand("DELETE FROM tenant WHERE id = $1", "acme")
        if with_runs:
            self._by_hand("DELETE FROM data_source_run WHERE tenant_id = $1", "acme")
        self.life.remove_tenant(with_runs=with_runs)

    def change_plugin(self) -> None:
        self.life.plugin, self.life.plugin_changed = f"plugin {self.life.tick()}", True
        self.script = replace(self.script, content_hash=self.life.plugin)

    def _by_hand(self, statement: str, *arguments: object) -> None:
        self.world.do(self.world.sql.execute(statement, *arguments))

    # What must hold after each

    @invariant()
    def the_row_says_what_the_model_says(self) -> None:
        found = self.world.do(self.world.sql.fetch(SEEN))
        model = self.life.row
        assert len(found) == (model is not None)
        if model is None:
            return
        (row,) = found
        ids = {one.claims.replica_id: name for name, one in self.world.replicas.items()}
        covered = {
            hour
            for piece in row["covered"]
            for hour in range(self.world.hour(piece.lower) or 0, self.world.hour(piece.upper) or 0)
        }
        said = replace(
            model,
            status=row["word"],
            fence=row["fence"],
            holder=ids[row["replica_id"]] if row["replica_id"] else None,
            covered=covered,
            date=self.world.hour(row["last_fetched_data_date"]),
            origin=self.world.hour(row["origin"]) or 0,
            due=row["due"],
            waiting=row["waiting"],
            failures=row["failures"],
            deaths=row["deaths"],
            retired=row["retired_at"] is not None,
            plugin=row["plugin_hash"],
        )
        assert said == model
        assert row["fence"] >= self.highest.get(row["run_no"], 0)
        self.highest[row["run_no"]] = row["fence"]

    @invariant()
    def nothing_happens_to_another_tenant(self) -> None:
        assert self.world.do(self.world.sql.fetch(OTHERS)) == self.others

    def teardown(self) -> None:
        assert self.world.do(self._faults()) == []

    async def _faults(self) -> list[Fault]:
        async with Database(self.world.url) as database:
            return (await verify(database, None, grace=HOUR)).faults


def live(url: str, statements: Mapping[str, str] | None = None, *, examples: int) -> None:
    """Try so many lives; the first that differs from the model raises."""
    world = World(url, statements)
    try:
        run_state_machine_as_test(
            type("Life", (LifeOfARun,), {"world": world}),
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                derandomize=True,
                phases=[Phase.generate],
            ),
        )
    finally:
        world.close()


@pytest.mark.timeout(60 + 2 * LIVES)
def test_a_run_is_what_the_model_says_whatever_happens_to_it(database_url: str) -> None:
    live(database_url, examples=LIVES)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("cover_windows", "AND run.fence = asked.fence", "AND asked.fence IS NOT NULL"),
        ("backfill_runs", "run.fence + (run.replica_id IS NOT NULL)::integer", "run.fence"),
        ("free_runs_of_the_dead", "run.fence + 1", "run.fence"),
    ],
)
def test_a_wrong_statement_is_found(database_url: str, name: str, right: str, wrong: str) -> None:
    known = load_statements()
    assert right in known[name]
    with pytest.raises(AssertionError):
        live(database_url, {**known, name: known[name].replace(right, wrong)}, examples=50)
