"""harvestd migrate --harden: what everybody may do no more, and that harvestd goes on."""

from __future__ import annotations

import asyncpg
import pytest

from harvestd.database.pool import Database, closing
from harvestd.errors import DatabaseError
from tests.builders import query
from tests.cli.shell import harvestd
from tests.clusters import Cluster, database_of
from tests.loading.dbs import a_shop

SCHEMA = "CREATE TABLE shop.item (tenant_id text, id bigint, PRIMARY KEY (tenant_id, id));"
TAKEN = (
    "SELECT pg_catalog.pg_advisory_lock(1)",
    "SELECT pg_catalog.pg_try_advisory_xact_lock_shared(1, 2)",
    "SELECT pg_catalog.pg_sleep(0)",
    "SELECT pg_catalog.pg_notify('a', 'b')",
    "SELECT pg_catalog.lo_create(0)",
    "SELECT pg_catalog.pg_stat_get_activity(NULL)",
    "SELECT pg_catalog.pg_logical_emit_message(false, 'a', 'b')",
)


async def test_after_the_printed_statements_a_seat_has_them_no_more_and_loading_goes_on(
    server: Cluster, database: Database, database_url: str
) -> None:
    first = await harvestd("migrate", "--harden", url=database_url)
    async with closing(await asyncpg.connect(server.admin_url(database_of(database_url)))) as admin:
        await admin.execute(first.out)
    again = await harvestd("migrate", "--harden", "--json", url=database_url)
    doctor = await harvestd("doctor", "--json", url=database_url)
    async with a_shop(database, database_url, SCHEMA) as shop:
        db = await shop.db_of("acme")
        await db.upsert("item", [{"id": 1}], ["id"])
        for statement in TAKEN:
            with pytest.raises(DatabaseError, match="permission denied for function"):
                async with db.transaction() as connection:
                    await connection.execute(statement)
        await db.upsert("item", [{"id": 2}], ["id"])

    assert (first.code, again.code) == (1, 0)
    assert "a superuser runs" in first.err
    assert again.json["hardening"] == []
    said = [one["what"] for one in doctor.json["findings"] if one["check"] == "hardening"]
    assert said == ["done, as migrate --harden does it"]
    assert len(await query(database_url, "SELECT FROM shop.item")) == 2


async def test_a_superuser_hardens_at_once(server: Cluster, database_url: str) -> None:
    admin = server.admin_url(database_of(database_url))
    before = await harvestd("migrate", "--harden", "--dry-run", url=admin)
    done = await harvestd("migrate", "--harden", url=admin)

    assert (before.code, done.code) == (1, 0)
    assert "hardened" in done.err
