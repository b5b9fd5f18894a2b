"""What other programs may leave in the tables of the application: dates and names of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app

PROBE = {"probe": {"KEY": "value"}}
SNAPSHOT = """
    from harvestd.plugin import cache_folder
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        (cache_folder() / "tenant").write_bytes(tenant_id.encode())
        async with db.transaction() as connection:
            await connection.execute(
                "INSERT INTO event (script, from_at, to_at) VALUES ($1, $2, $3)",
                tenant_id, start_date, end_date)
"""
IMPOSSIBLE_DATES = ["-infinity", "infinity", "4000-01-01 BC", "200000-01-01"]
"""PostgreSQL stores them; Python's datetime has no place for them."""


async def words(url: str) -> dict[str, tuple[str, str | None]]:
    """Status and error of the runs that are not retired, by tenant."""
    rows = await query(
        url,
        "SELECT tenant_id, status::text AS word, error FROM data_source_run"
        " WHERE script = 'main' AND retired_at IS NULL",
    )
    return {row["tenant_id"]: (row["word"], row["error"]) for row in rows}


def tenants_in(cache: Path) -> list[str]:
    """The tenants that have a folder of their own there."""
    return sorted(path.read_bytes().decode() for path in cache.glob("probe/*/tenant"))


async def the_ledger_of_acme(url: str) -> Any:
    """Whether what acme covered ends now and begins in a year that Python knows."""
    [row] = await query(
        url,
        "SELECT lower(covered) >= '0001-01-01 00:00:00+00' AND upper(covered) <= now()"
        " AND upper(covered) > now() - interval '1 hour' AS sound"
        " FROM data_source_run WHERE tenant_id = 'acme'",
    )
    return row["sound"]


@pytest.mark.parametrize("date", IMPOSSIBLE_DATES)
async def test_a_date_set_by_hand_that_python_cannot_hold_fails_nobody(
    date: str, database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SNAPSHOT}) as app:
        await cycle(app)
        await query(
            database_url,
            "UPDATE data_source_run SET last_fetched_data_date = $1::text::timestamptz"
            " WHERE tenant_id = 'acme'",
            date,
        )
        await cycle(app)
        await cycle(app)

    assert await words(database_url) == {t: ("COMPLETED", None) for t in ("acme", "globex")}
    assert await the_ledger_of_acme(database_url)


@pytest.mark.parametrize("date", IMPOSSIBLE_DATES)
async def test_a_row_of_another_program_with_such_a_date_is_adopted(
    date: str, database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, {"probe/main.py": SNAPSHOT}) as app:
        await cycle(app)
        await query(database_url, "DELETE FROM data_source_run WHERE tenant_id = 'acme'")
        await query(
            database_url,
            "INSERT INTO data_source_run (tenant_id, data_source, script, last_fetched_data_date)"
            " VALUES ('acme', 'probe', 'main', $1::text::timestamptz)",
            date,
        )
        await query(
            database_url,
            "UPDATE tenant_data_source_config SET value = 'new' WHERE tenant_id = 'acme'",
        )
        await cycle(app)
        await cycle(app)

    assert await words(database_url) == {t: ("COMPLETED", None) for t in ("acme", "globex")}
    assert await the_ledger_of_acme(database_url)


@pytest.mark.parametrize("date", IMPOSSIBLE_DATES)
async def test_a_retired_run_with_such_a_date_comes_back(
    date: str, database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    configured = "SELECT tenant_id FROM data_source_run WHERE retired_at IS NULL"
    async with running_app(database_url, tmp_path, {"probe/main.py": SNAPSHOT}) as app:
        await cycle(app)
        await query(database_url, "DELETE FROM tenant_data_source_config WHERE tenant_id = 'acme'")
        await cycle(app)
        assert [row["tenant_id"] for row in await query(database_url, configured)] == ["globex"]
        await query(
            database_url,
            "UPDATE data_source_run SET last_fetched_data_date = $1::text::timestamptz"
            " WHERE tenant_id = 'acme'",
            date,
        )
        await query(
            database_url,
            "INSERT INTO tenant_data_source_config (tenant_id, data_source, key, value)"
            " VALUES ('acme', 'probe', 'KEY', 'value')",
        )
        await cycle(app)
        await cycle(app)

    assert await words(database_url) == {t: ("COMPLETED", None) for t in ("acme", "globex")}
    assert await the_ledger_of_acme(database_url)


async def test_tenants_of_any_name_run_beside_each_other(database_url: str, tmp_path: Path) -> None:
    """Also longer ones than a key of the run rows has room for: those alone are left out."""
    names = [
        *("", " ", "\ufeff", "\x7f", "\x01", "a\tb", "\n\x1b[31mred\r\n", "\u202eabc", "\ue000"),
        *("'; DROP TABLE tenant; --", "../../etc", "a/b/c", "-rf", "$(exit 1)", "%s%n$1", "{}"),
        *("\N{PILE OF POO}" * 50, "ACME", "acme", "A" * 2000),
    ]
    too_long = "".join(f"{number:x}" for number in range(2000))[:2400]  # as in no dictionary
    async with running_app(database_url, tmp_path, {"probe/main.py": SNAPSHOT}) as app:
        for name in (*names, too_long):
            await a_tenant(database_url, name, PROBE)
        await cycle(app)
        ended = await words(database_url)

    assert ended == {name: ("COMPLETED", None) for name in names}
    rows = await query(database_url, "SELECT tenant_id FROM probe.event WHERE tenant_id <> script")
    assert rows == []
    assert tenants_in(tmp_path / "data" / "cache") == sorted(names)
