"""`harvestd doctor`: what is well, what is missing, and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from harvestd import __version__
from harvestd.database.pool import Database
from harvestd.errors import SchemaTooNew, SchemaTooOld
from harvestd.service.checkup import Level, check_database, size
from harvestd.service.facts import Facts
from harvestd.service.preparing import CORE_CONNECTIONS
from harvestd.service.status import ReplicaSeen
from harvestd.settings import load_settings
from tests.builders import a_replica, a_run, a_tenant, made_roles, query, silence
from tests.cli.shell import harvestd
from tests.daemons import SIMPLE, cycle, running_app

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WELL: dict[str, Any] = {
    "now": NOW,
    "version_num": 180001,
    "role": "app",
    "superuser": False,
    "may_create_roles": True,
    "owns_database": True,
    "may_create_in_public": True,
    "max_connections": 97,
    "connections": 3,
    "max_prepared_transactions": 0,
    "lo_compat_privileges": False,
    "in_recovery": False,
    "local": False,
    "data_directory": None,
    "database_bytes": 5 * 2**30,
}
REPLICA = ReplicaSeen(
    UUID(int=7),
    "host",
    7,
    __version__,
    NOW,
    silent_seconds=1.0,
    lease_seconds=None,
    houses=True,
    holds=0,
    plugin_problems=[],
    lacks=[],
)
FACTS = Facts(WELL, None, replicas=[REPLICA])


def levels(facts: Facts, **settings: object) -> dict[str, Level]:
    found = check_database(facts, load_settings({}, **settings), NOW)
    return {one.check: one.level for one in found if one.level is not Level.OK}


def test_nothing_is_said_against_an_installation_that_is_well() -> None:
    assert levels(FACTS) == {}


@pytest.mark.parametrize(
    ("seen", "check", "level"),
    [
        ({"version_num": 140010}, "server", Level.FAIL),
        ({"version_num": 190000}, "server", Level.WARN),
        ({"in_recovery": True}, "server", Level.FAIL),
        ({"may_create_roles": False}, "role", Level.FAIL),
        ({"may_create_in_public": False}, "role", Level.WARN),
        ({"owns_database": False}, "role", Level.WARN),
        ({"max_connections": 20}, "connections", Level.FAIL),
        ({"max_connections": 30}, "connections", Level.WARN),
        ({"max_prepared_transactions": 5}, "prepared transactions", Level.WARN),
        ({"lo_compat_privileges": True}, "large objects", Level.WARN),
        ({"now": NOW - timedelta(seconds=6)}, "clock", Level.WARN),
        ({"now": NOW + timedelta(seconds=6)}, "clock", Level.WARN),
    ],
)
def test_each_fact_about_the_server_has_its_finding(
    seen: dict[str, Any], check: str, level: Level
) -> None:
    facts = replace(FACTS, server=WELL | seen)
    found = [one for one in check_database(facts, load_settings({}), NOW) if one.next_step]

    assert levels(facts) == {check: level}
    assert [one.check for one in found] == [check]


def test_each_replica_counts_and_so_do_its_silence_and_its_version() -> None:
    silent = replace(REPLICA, silent_seconds=31.0)
    older = replace(REPLICA, version="0.0.1")

    assert levels(replace(FACTS, replicas=[REPLICA] * 4)) == {"connections": Level.FAIL}
    assert levels(replace(FACTS, replicas=[REPLICA] * 4), seats_max=5) == {}
    assert levels(replace(FACTS, replicas=[silent])) == {"replicas": Level.WARN}
    assert levels(replace(FACTS, replicas=[silent]), lease_seconds=60) == {}
    assert levels(replace(FACTS, replicas=[replace(silent, lease_seconds=60)])) == {}
    assert levels(replace(FACTS, replicas=[replace(REPLICA, houses=False)])) == {
        "replicas": Level.WARN
    }
    assert levels(replace(FACTS, replicas=[REPLICA, older])) == {"replicas": Level.WARN}
    assert levels(replace(FACTS, replicas=[])) == {"replicas": Level.WARN}
    lacking = replace(REPLICA, lacks=["git/commit"])
    assert levels(replace(FACTS, replicas=[REPLICA, lacking])) == {"replicas": Level.WARN}


def test_a_schema_that_this_version_cannot_use_fails_and_an_older_one_is_mended_by_starting() -> (
    None
):
    old = Facts(WELL, SchemaTooOld("the database lacks 2 migrations", next_step="migrate"))
    new = Facts(WELL, SchemaTooNew("a newer harvestd", why="it breaks", next_step="update"))

    assert levels(old) == {"schema": Level.WARN}
    assert levels(new) == {"schema": Level.FAIL}


async def test_hardening_is_not_said_to_be_done_where_it_was_not_looked_at(
    database_url: str,
) -> None:
    roles = await made_roles(database_url)
    await query(database_url, f"REVOKE USAGE ON SCHEMA harvestd_api FROM {roles.exec}")
    done = await harvestd("doctor", "--json", url=database_url)
    said = {one["check"]: one["what"] for one in done.json["findings"]}

    assert said["wall"] == "missing: USAGE on the schema harvestd_api"
    assert said["hardening"].startswith("not looked at")


async def test_the_count_of_connections_is_what_a_replica_opens(
    database_url: str, tmp_path: Path
) -> None:
    async with running_app(database_url, tmp_path) as app:
        lines = len(app.database._lines)

    assert lines == CORE_CONNECTIONS


async def test_a_working_installation_is_found_well_in_text_and_in_json(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "canary-in-config"}})
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
        settings = {
            "DATA_DIR": str(tmp_path / "data"),
            "PLUGIN_DIRS": str(tmp_path / "plugins"),
        }
        json = await harvestd("doctor", "--json", url=database_url, settings=settings)
        text = await harvestd("doctor", url=database_url, settings=settings)
    checks = {one["check"]: one for one in json.json["findings"]}

    assert (json.code, text.code) == (0, 0), json.out
    assert json.json["failed"] == 0
    assert set(checks) == {
        *("settings", "plugins", "disk of DATA_DIR", "server", "role", "schema", "wall"),
        "hardening",
        *("schemas of sources", "connections", "prepared transactions", "large objects"),
        *("clock", "disk of the database", "replicas", "runs"),
    }
    assert checks["schemas of sources"]["level"] == "ok"
    assert checks["replicas"]["what"] == f"1 running, version {__version__}"
    assert "ok    settings" in text.out
    assert "0 failures" in text.err
    assert "canary" not in text.out + json.out


async def test_runs_that_nobody_takes_are_found_with_an_example(
    database: Database, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    await a_tenant(database_url, "asleep")
    for key in ("acme/git/failing", "acme/git/held", "acme/git/overdue", "asleep/git/overdue"):
        await a_run(database_url, key)
    heartbeat = await a_replica(database)
    for change in (
        "UPDATE tenant SET paused_at = now() WHERE id = 'asleep'",
        "UPDATE data_source_run SET due_at = now() - interval '2 hours' WHERE script = 'overdue'",
        "UPDATE data_source_run SET status = 'FAILED' WHERE script = 'failing'",
        f"UPDATE data_source_run SET status = 'RUNNING', replica_id = '{heartbeat.replica_id}' "
        "WHERE script = 'held'",
        "UPDATE harvestd.replica SET heartbeat_at = now() - interval '2 hours'",
    ):
        await query(database_url, change)
    await silence(database_url, heartbeat.replica_id)
    done = await harvestd("doctor", "--json", url=database_url)
    said = [one["what"] for one in done.json["findings"] if one["check"] == "runs"]

    assert done.code == 0
    assert said == [
        "1 run(s) failing, for example acme/git/failing",
        "1 run(s) held by the silent, for example acme/git/held",
        "1 run(s) overdue, for example acme/git/overdue",
    ]


async def test_an_empty_database_and_broken_plugins_are_told_apart(
    empty_database: str, tmp_path: Path
) -> None:
    (tmp_path / "plugins" / "probe").mkdir(parents=True)
    (tmp_path / "plugins" / "probe" / "bad.py").write_text("run = 1\n")
    fresh = await harvestd("doctor", "--json", url=empty_database)
    broken = await harvestd(
        "doctor", url=empty_database, settings={"PLUGIN_DIRS": str(tmp_path / "plugins")}
    )
    schema = next(one for one in fresh.json["findings"] if one["check"] == "schema")

    assert (fresh.code, broken.code) == (0, 1)
    assert (schema["level"], schema["next_step"]) == ("warn", "harvestd migrate")
    assert "fail  plugins" in broken.out
    assert "next: harvestd plugins shows all" in broken.out
    assert await query(empty_database, "SELECT to_regnamespace('harvestd') AS made") == [
        {"made": None}
    ]


async def test_a_database_that_is_not_reached_ends_with_3_after_what_can_be_said(
    database_url: str, tmp_path: Path
) -> None:
    away = await harvestd(
        "doctor", "--json", url="postgresql://app:x@127.0.0.1:1/app", cwd=tmp_path
    )
    wrong = await harvestd("doctor", url=database_url.replace("app:", "app:not-"))
    nothing = await harvestd("doctor", settings={"DATA_DIR": str(tmp_path / "none")})

    assert (away.code, wrong.code, nothing.code) == (3, 3, 1)
    assert [one["check"] for one in away.json["findings"]][-1] == "database"
    assert away.json["findings"][0]["level"] == "ok"
    assert "not-" not in wrong.out
    assert "there is no database in" in nothing.out


def test_sizes_are_said_in_their_largest_unit() -> None:
    assert [size(n) for n in (512, 2048, 5 * 2**20, 3 * 2**30, 2**41)] == [
        "512 bytes",
        "2.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
        "2.0 TiB",
    ]
