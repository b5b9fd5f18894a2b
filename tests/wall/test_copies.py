"""A clone and a restored dump beside their original on one server: each makes roles, policies and
grants of its own before it serves, and a seat of one is nobody in the other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from harvestd.database.embedded_programs import find_server_user
from harvestd.database.logins import ensure_seat, scram_verifier
from harvestd.database.pool import closing
from harvestd.database.roles import Roles, ensure_roles
from harvestd.loading.breaches import find_breaches
from tests.builders import a_tenant, query
from tests.clusters import (
    HARDENED_VARIABLE,
    Cluster,
    create_database,
    database_of,
    drop_database,
    find_server_programs,
)
from tests.daemons import PROBE, SIMPLE, cycle, running_app, runs
from tests.loading.walls import Connection

# Several, which are taken over at the same time.
PLUGINS = {f"{source}/main.py": SIMPLE for source in ("probe", "one", "two", "three")}
# Whom anything in this database names: as an owner, in a grant, in a policy.
NAMED = """
    SELECT DISTINCT pg_get_userbyid(refobjid)::text AS role FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass
      AND classid <> 'pg_proc'::regclass  -- `migrate --harden`, which only a superuser takes back
      AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION SELECT substring(pg_get_triggerdef(oid) FROM 'harvestd_[0-9a-f]{8}_daemon')
    FROM pg_trigger WHERE tgname = 'harvestd_guard'
"""


async def cloned(server: Cluster, original: str, folder: Path) -> str:
    return await create_database(server, template=database_of(original))


async def restored(server: Cluster, original: str, folder: Path) -> str:
    """By pg_dump and a superuser, as an administrator restores."""
    dump = dump_of(server, original, folder)
    name = await create_database(server)
    async with closing(await asyncpg.connect(server.admin_url(name))) as admin:
        await admin.execute("".join(line for line in dump.splitlines(True) if line[0] != "\\"))
    return name


def dump_of(server: Cluster, original: str, folder: Path) -> str:
    programs = find_server_programs(str(server.major), find_server_user(), folder)
    assert programs is not None
    said = subprocess.run(
        [
            *(str(programs / "pg_dump"), "--inserts", f"--host={server.sockets}"),
            *("--username=postgres", database_of(original)),
        ],
        env=os.environ | {"PGPASSWORD": server.password},
        check=True,
        capture_output=True,
        text=True,
    )
    return said.stdout


WAYS = {"clone": cloned, "restored dump": restored}


async def whole(url: str) -> Roles:
    """The roles of a database, in whose wall nothing is missing and which names nobody else's."""
    async with closing(await asyncpg.connect(url)) as connection:
        roles = await ensure_roles(connection)
        assert await find_breaches(connection, roles) == []
        named = {row["role"] for row in await connection.fetch(NAMED) if row["role"]}
    ours = {name for name in named if name.startswith("harvestd_")}
    assert {name for name in ours if not name.startswith(roles.prefix)} == set()
    assert ours >= {roles.daemon, roles.exec, roles.reader, roles.source("probe")}
    return roles


@asynccontextmanager
async def a_seat_of(
    server: Cluster, own: str, roles: Roles, elsewhere: str
) -> AsyncIterator[Connection]:
    """A login for plugin SQL of one database, connected to another."""
    async with closing(await asyncpg.connect(own)) as connection:
        await ensure_seat(connection, roles, 9, scram_verifier("known"))
    url = server.url(database_of(elsewhere), roles.seat(9), "known")
    async with closing(await asyncpg.connect(url)) as seat:
        yield seat


async def refuses_all(seat: Connection) -> None:
    """To a stranger's seat the database shows nothing and lets it do nothing."""
    for attempt in (
        "SELECT * FROM probe.event",
        "INSERT INTO probe.event DEFAULT VALUES",
        "SELECT harvestd_api.tenant()",
        "SELECT * FROM harvestd.binding",
        "CREATE SCHEMA mine",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await seat.execute(attempt)


@pytest.mark.parametrize("way", WAYS)
async def test_a_copy_and_its_original_serve_beside_each_other_each_behind_its_own_wall(
    way: str,
    server: Cluster,
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(database_url, tmp_path, PLUGINS) as app:
        await cycle(app)
    name = await WAYS[way](server, database_url, tmp_path)
    copy_url = server.url(name)
    try:
        events = "SELECT tenant_id, count(*) FROM probe.event GROUP BY 1 ORDER BY 1"
        before = await query(copy_url, events)
        async with (
            running_app(database_url, tmp_path, PLUGINS) as one,
            running_app(copy_url, tmp_path / "copy", PLUGINS) as other,
        ):
            await cycle(one)
            await cycle(other)
            words = [
                {run["word"] for run in (await runs(url)).values()}
                for url in (database_url, copy_url)
            ]
        assert words == [{"COMPLETED"}, {"COMPLETED"}]
        assert "schema_refused" not in capsys.readouterr().err
        after = await query(copy_url, events)
        assert [row["tenant_id"] for row in after] == ["acme", "globex"]
        assert all(
            late["count"] > early["count"] for early, late in zip(before, after, strict=True)
        )
        original, copy = await whole(database_url), await whole(copy_url)
        assert original.hex != copy.hex
        for roles, own, elsewhere in (
            (original, database_url, copy_url),
            (copy, copy_url, database_url),
        ):
            try:
                async with a_seat_of(server, own, roles, elsewhere) as seat:
                    await refuses_all(seat)
            except asyncpg.InsufficientPrivilegeError:  # it may not even connect
                assert os.environ.get(HARDENED_VARIABLE)
    finally:
        await drop_database(server, name)
