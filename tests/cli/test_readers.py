"""harvestd reader: who reads the collected data, and who may say so."""

from __future__ import annotations

import asyncpg
import pytest

from harvestd.database.pool import Database, closing
from harvestd.loading.schemas import apply_source_schema
from tests.builders import made_roles, query
from tests.cli.shell import harvestd
from tests.clusters import Cluster, database_of
from tests.loading.dbs import a_shop

SCHEMA = "CREATE TABLE shop.item (tenant_id text, id bigint, PRIMARY KEY (tenant_id, id));"
LATER = SCHEMA.replace("shop", "later")
COUNT = "SELECT count(*)::int FROM {}.item"


async def seen_by(server: Cluster, url: str, role: str, source: str) -> object:
    """How many rows a login counts, or what keeps it from them."""
    address = server.url(database_of(url), role)
    async with closing(await asyncpg.connect(address)) as connection:
        try:
            return await connection.fetchval(COUNT.format(source))
        except asyncpg.InsufficientPrivilegeError:
            return "denied"


async def make_login(server: Cluster, role: str, more: str = "") -> None:
    """A role of somebody else's, with the password of all."""
    await query(server.admin_url(), f"DROP ROLE IF EXISTS {role}")
    await query(server.admin_url(), f"CREATE ROLE {role} LOGIN {more} PASSWORD '{server.password}'")


async def test_a_reader_sees_every_tenants_rows_also_of_sources_to_come_and_writes_none(
    server: Cluster, database: Database, database_url: str
) -> None:
    await make_login(server, "grafana")
    async with a_shop(database, database_url, SCHEMA) as shop:
        for tenant_id in ("acme", "globex"):
            await (await shop.db_of(tenant_id)).upsert("item", [{"id": 1}], ["id"])
        before = await seen_by(server, database_url, "grafana", "shop")
        added = await harvestd("reader", "add", "grafana", "--json", url=database_url)
        again = await harvestd("reader", "add", "grafana", url=database_url)
        listed = await harvestd("reader", "list", "--json", url=database_url)
        after = await seen_by(server, database_url, "grafana", "shop")
        address = server.url(database_of(database_url), "grafana")
        async with closing(await asyncpg.connect(address)) as connection:
            for write in ("DELETE FROM shop.item", "INSERT INTO shop.item VALUES ('acme', 9)"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(write)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM harvestd.binding")
        removed = await harvestd("reader", "remove", "grafana", "--json", url=database_url)
        gone = await seen_by(server, database_url, "grafana", "shop")

    assert (before, after, gone) == ("denied", 2, "denied")
    assert added.json == {"role": "grafana", "reads": True, "changed": True}
    assert "reads already" in again.err
    assert listed.json == [{"role": "grafana", "may_log_in": True, "reads": True}]
    assert removed.json == {"role": "grafana", "reads": False, "changed": True}


async def test_a_source_that_comes_later_is_read_too(
    server: Cluster, database: Database, database_url: str
) -> None:
    await make_login(server, "metabase", "NOINHERIT")
    added = await harvestd("reader", "add", "metabase", url=database_url)
    roles = await made_roles(database_url)
    await apply_source_schema(database, roles, source="later", schema_sql=LATER)

    if server.major >= 16:
        assert added.code == 0
        assert await seen_by(server, database_url, "metabase", "later") == 0
    else:  # whether rights come along is the role's own there
        assert "ALTER ROLE metabase INHERIT" in added.err


async def test_what_cannot_be_given_says_why_and_what_next(
    server: Cluster, database_url: str
) -> None:
    roles = await made_roles(database_url)
    unknown = await harvestd("reader", "add", "nobody_here", url=database_url)
    ours = await harvestd("reader", "add", roles.exec, url=database_url)
    superuser = await harvestd("reader", "add", "postgres", url=database_url)
    none = await harvestd("reader", "list", url=database_url)

    assert (unknown.code, ours.code, superuser.code) == (1, 1, 0)
    assert "CREATE ROLE nobody_here LOGIN" in unknown.err
    assert "is a role of harvestd" in ours.err
    assert "sees every row" in superuser.err
    assert "harvestd reader add ROLE" in none.err


async def test_a_right_that_came_another_way_is_not_said_to_be_gone(
    server: Cluster, database_url: str
) -> None:
    roles = await made_roles(database_url)
    await make_login(server, "analyst")
    await query(server.admin_url(), "DROP ROLE IF EXISTS analysts")
    await query(server.admin_url(), "CREATE ROLE analysts NOLOGIN ROLE analyst")
    await query(server.admin_url(), f"GRANT {roles.reader} TO analysts")
    still = await harvestd("reader", "remove", "analyst", url=database_url)

    assert still.code == 1
    assert "still reads" in still.err
    await query(server.admin_url(), f"REVOKE {roles.reader} FROM analysts")
