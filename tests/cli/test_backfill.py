"""`harvestd backfill`: what it takes out of the ledger, what it says of it, whom it asks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harvestd.cli.moments import moment, stretch
from harvestd.cli.output import UsageError
from harvestd.database.pool import Database
from tests.builders import a_replica, a_run, a_tenant, a_transaction, query
from tests.cli.shell import harvestd, terminal
from tests.daemons import SIMPLE, cycle, running_app
from tests.processes import wait_until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEEN = """
    SELECT data_source || '/' || script AS name, tenant_id, covered::text, origin,
           last_fetched_data_date AS watermark, due_at <= now() AS due, not_before::text, fence,
           failures, status::text, replica_id IS NOT NULL AS held
    FROM data_source_run ORDER BY tenant_id, 1
"""
COVERED = """
    UPDATE data_source_run
    SET origin = '2026-01-01Z', covered = '{[2026-01-01Z,2026-02-01Z)}', fence = 3,
        last_fetched_data_date = '2026-02-01Z', status = 'WAITING', failures = 2,
        due_at = now() + interval '1 day', not_before = now() + interval '1 day'
"""


async def two_tenants(url: str) -> None:
    for tenant in ("acme", "zeta"):
        await a_tenant(url, tenant)
        for script in ("activity", "commit"):
            await a_run(url, f"{tenant}/git/{script}")
    await query(url, COVERED)


async def seen(url: str) -> dict[str, dict[str, Any]]:
    return {f"{row['tenant_id']}/{row['name']}": row for row in await query(url, SEEN)}


async def test_a_stretch_behind_the_newest_data_becomes_a_hole_and_the_run_is_due(
    database_url: str,
) -> None:
    await two_tenants(database_url)
    before = await seen(database_url)
    done = await harvestd(
        *("backfill", "--tenant", "acme", "--script", "activity", "--json"),
        *("--from", "2026-01-10", "--to", "2026-01-12T12:00"),
        url=database_url,
    )
    after = await seen(database_url)
    (told,) = done.json["runs"]

    run = after.pop("acme/git/activity")
    assert run["covered"].count("[") == 2
    assert "2026-01-10" in run["covered"]
    assert run["watermark"] == datetime(2026, 2, 1, tzinfo=UTC)
    assert (run["due"], run["not_before"], run["failures"], run["fence"]) == (
        True,
        "-infinity",
        0,
        3,
    )
    assert run["status"] == "WAITING"  # docs/states.md: never the status
    assert all(after[name] == before[name] for name in after)
    assert told["seconds"] == 2.5 * 86400
    assert (told["runs"], told["rewound"], told["before_origin"], told["held"]) == (1, 0, 0, 0)


async def test_before_the_origin_the_origin_moves_and_up_to_now_the_watermark_does(
    database_url: str,
) -> None:
    await two_tenants(database_url)
    done = await harvestd(
        "backfill", "--tenant", "acme", "--source", "git", "--from", "2025-12-01", url=database_url
    )
    run = (await seen(database_url))["acme/git/commit"]

    assert done.code == 0
    assert run["covered"] == "{}"
    assert run["origin"] == datetime(2025, 12, 1, tzinfo=UTC)
    assert run["watermark"] is None
    assert "the origin of 2 runs moves back to 2025-12-01 00:00" in done.err
    assert "2 runs: the newest data too is read again, before anything new" in done.err
    assert "snapshots (git/commit) list everything in one window" in done.err
    assert "git/activity" in done.out
    assert "2 runs" in done.err


async def test_a_run_that_never_read_the_stretch_is_left_alone(database_url: str) -> None:
    await two_tenants(database_url)
    before = await seen(database_url)
    done = await harvestd(
        "backfill", "--tenant", "acme", "--from", "2026-02-02", "--to", "2026-02-03",
        url=database_url,
    )  # fmt: skip

    assert done.code == 0
    assert "nothing to read again" in done.err
    assert await seen(database_url) == before


async def test_a_date_that_was_set_by_hand_is_not_taken_for_a_reset(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url, "acme/git/commit")
    await query(database_url, "UPDATE data_source_run SET last_fetched_data_date = origin")
    (before,) = (await seen(database_url)).values()
    done = await harvestd("backfill", "--tenant", "acme", "--from", "30d", url=database_url)
    (after,) = (await seen(database_url)).values()

    assert done.code == 0
    assert after["origin"] < before["origin"]
    assert after["watermark"] == before["watermark"]
    assert after["covered"] == "{}"


async def test_every_tenant_at_once_needs_yes_elsewhere_than_on_a_terminal(
    database_url: str,
) -> None:
    await two_tenants(database_url)
    before = await seen(database_url)
    stretch_of = ("backfill", "--script", "commit", "--from", "2026-01-10", "--to", "2026-01-12")
    refused = await harvestd(*stretch_of, url=database_url)
    untouched = await seen(database_url)
    with terminal(*stretch_of, settings={"DATABASE_URL": database_url}) as screen:
        await screen.until("[y/N]")
        screen.type("n\n")
        denied = await screen.ended()
    still = await seen(database_url)
    done = await harvestd(*stretch_of, "--yes", url=database_url)
    after = await seen(database_url)

    assert (refused.code, denied, done.code) == (2, 2, 0)
    assert "EVERY tenant" in screen.said
    assert before == untouched == still
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"acme/git/commit", "zeta/git/commit"}


async def test_a_held_run_keeps_running_with_a_raised_fence(
    database: Database, database_url: str
) -> None:
    await two_tenants(database_url)
    heartbeat = await a_replica(database)
    await query(
        database_url,
        "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1 WHERE tenant_id = 'acme'",
        heartbeat.replica_id,
    )
    done = await harvestd(
        "backfill", "--tenant", "acme", "--from", "2026-01-10", "--json", url=database_url
    )
    run = (await seen(database_url))["acme/git/commit"]

    assert (run["held"], run["status"], run["fence"]) == (True, "RUNNING", 4)
    assert [one["held"] for one in done.json["runs"]] == [1, 1]


async def test_a_run_in_a_long_transaction_is_said_and_nothing_is_changed(
    database_url: str,
) -> None:
    await two_tenants(database_url)
    before = await seen(database_url)
    locking = "SELECT FROM data_source_run WHERE tenant_id = 'zeta' FOR NO KEY UPDATE"
    async with a_transaction(database_url, locking):
        done = await harvestd(
            "backfill", "--from", "2026-01-10", "--to", "2026-01-12", "--yes", url=database_url
        )

    assert done.code == 1
    assert "nothing was changed: a run is in the middle of a long transaction" in done.err
    assert await seen(database_url) == before


async def test_a_living_replica_reads_the_stretch_again_within_its_next_heartbeat(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "v"}})
    plugins = {"probe/main.py": SIMPLE}
    async with running_app(database_url, tmp_path, plugins, lease_seconds=3.0) as app:
        await cycle(app)
        before = await windows(database_url)
        done = await harvestd(
            *("backfill", "--tenant", "acme", "--from", "10d", "--to", "8d", "--json"),
            url=database_url,
            settings={"PLUGIN_DIRS": str(tmp_path / "plugins")},
        )

        async def is_whole() -> bool:
            whole = "SELECT FROM data_source_run WHERE covered @> tstzrange(origin, $1)"
            return bool(await query(database_url, whole, datetime.now(UTC) - timedelta(days=1)))

        await wait_until(is_whole, "the hole was read")
    (told,) = done.json["runs"]
    since = datetime.fromisoformat(done.json["from"])
    again = [one for one in await windows(database_url) if one not in before]

    assert told["windows"] == 2
    assert told["seconds"] == 2 * 86400
    assert [one["from_at"] for one in again if one["from_at"] < since + timedelta(days=7)] == [
        since,
        since + timedelta(days=1),
    ]


async def windows(url: str) -> list[dict[str, Any]]:
    return await query(url, "SELECT from_at, to_at FROM probe.event ORDER BY from_at")


async def test_unknown_names_are_answered_with_the_nearest(database_url: str) -> None:
    await two_tenants(database_url)
    lines = {
        ("--tenant", "acmee"): "did you mean 'acme'?",
        ("--source", "gti"): "did you mean 'git'?",
        ("--script", "comit"): "did you mean 'commit'?",
        ("--tenant", "acme", "--script", "comit"): "did you mean 'commit'?",
    }
    said = await asyncio.gather(
        *(harvestd("backfill", "--from", "9d", "--yes", *line, url=database_url) for line in lines)
    )
    missing = await harvestd("backfill", url=database_url)

    assert [one.code for one in said] == [1, 1, 1, 1]
    for one, step in zip(said, lines.values(), strict=True):
        assert step in one.err
    assert (missing.code, "needs --from" in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", NOW),
        ("14d", NOW - timedelta(days=14)),
        ("14 days ago", NOW - timedelta(days=14)),
        ("36h", NOW - timedelta(hours=36)),
        ("90min", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T08:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31 08:00+02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("2026-01-31T08:00:00.123456Z", datetime(2026, 1, 31, 8, 0, 0, 123000, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 3, tzinfo=UTC)),
        ("999999w", datetime(1, 1, 3, tzinfo=UTC)),
    ],
)
def test_a_moment_is_what_a_person_means_by_it(text: str, wanted: datetime) -> None:
    assert moment("--from", text, NOW) == wanted


@pytest.mark.parametrize("text", ["yesterday", "14", "14m", "2026-13-01", "", "-3d"])
def test_what_could_mean_two_things_or_nothing_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="no moment"):
        moment("--from", text, NOW)


def test_a_stretch_begins_before_it_ends_and_not_in_the_future() -> None:
    with pytest.raises(UsageError, match="is not before"):
        stretch("1d", "2d", NOW)
    with pytest.raises(UsageError, match="is not before"):
        stretch("now", None, NOW)
    with pytest.raises(UsageError, match="in the future"):
        stretch("1d", "2026-03-02", NOW)
    assert stretch("1d", None, NOW).width == timedelta(days=1)
