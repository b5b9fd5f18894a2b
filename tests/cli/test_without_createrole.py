"""A daemon whose role may log in and nothing more, from the refusal to a reader of the rows."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from harvestd.database.pool import closing
from tests.builders import a_tenant, query
from tests.cli.shell import Done, ended, environment, harvestd
from tests.clusters import DAEMON_ROLE, Cluster, database_of
from tests.daemons import EVENT_TABLE, SIMPLE, write_plugins
from tests.keepers import make_keeper, without_createrole

WIDER = EVENT_TABLE + "ALTER TABLE {source}.event ADD COLUMN IF NOT EXISTS note text;"


@pytest.fixture(params=["owns the database", "may create in it"])
async def url(
    request: pytest.FixtureRequest, server: Cluster, empty_database: str
) -> AsyncIterator[str]:
    """An empty database for a login that may not create roles."""
    base, admin = database_of(empty_database), server.admin_url(database_of(empty_database))
    if request.param == "may create in it":
        await query(admin, f"ALTER DATABASE {base} OWNER TO postgres")
        await query(admin, f"GRANT CREATE ON DATABASE {base} TO {DAEMON_ROLE}")
        await query(admin, f"GRANT CREATE ON SCHEMA public TO {DAEMON_ROLE}")
    async with without_createrole(server):
        yield empty_database


async def psql(url: str, script: str) -> Done:
    """The script as a database administrator pipes it."""
    process = await asyncio.create_subprocess_exec(
        *("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--dbname={url}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    return await ended(process, script.encode())


async def run_all(url: str, statements: Sequence[str]) -> None:
    async with closing(await asyncpg.connect(url)) as connection:
        await connection.execute(";".join(statements))


def levels(doctor: Done) -> Mapping[str, str]:
    return {one["check"]: one["level"] for one in doctor.json["findings"]}


@pytest.mark.slow
async def test_it_is_refused_until_a_superuser_runs_what_is_printed_and_then_does_all_of_it(
    server: Cluster, url: str, tmp_path: Path
) -> None:
    folder = write_plugins(tmp_path / "plugins", {"probe/main.py": SIMPLE})
    settings = {"DATA_DIR": str(tmp_path / "data"), "PLUGIN_DIRS": str(folder)}
    settings |= {"FIRST_IMPORT_DAYS": "1", "HTTP_ADDRESS": "127.0.0.1:0"}
    admin = server.admin_url(database_of(url))

    refused = await harvestd("migrate", url=url, settings=settings)
    told = await harvestd("doctor", "--json", url=url, settings=settings)
    printed = await harvestd("migrate", "--print-roles", url=url)
    if shutil.which("psql"):
        ran = await psql(admin, printed.out)
        assert (ran.code, ran.err) == (0, "")
    else:
        await query(admin, printed.out)
    migrated = await harvestd("migrate", url=url, settings=settings)

    assert refused.code == 1
    assert 'the role "app" may not create roles' in refused.err
    assert 'what "harvestd migrate --print-roles" prints' in refused.err
    assert levels(told)["role"] == "fail"
    assert printed.code == 0
    assert "a superuser runs this" in printed.err
    assert migrated.code == 0, migrated.err

    for tenant_id in ("acme", "globex"):
        await a_tenant(url, tenant_id, {"probe": {"KEY": "x"}, "later": {"KEY": "x"}})
    first = await harvestd("run", "--once", url=url, settings=settings)
    hardening = (await harvestd("migrate", "--harden", "--json", url=url)).json["hardening"]
    await run_all(admin, hardening)
    write_plugins(folder, {"later/main.py": SIMPLE})
    (folder / "probe" / "schema.sql").write_text(WIDER.format(source="probe"))
    checked = await harvestd("check", url=url, settings=settings)
    second = await harvestd("run", "--once", url=url, settings=settings)
    tried = await harvestd("try", "later/main", "--tenant", "acme", url=url, settings=settings)
    count = "SELECT tenant_id, count(*) > 0 AS some FROM {}.event GROUP BY 1 ORDER BY 1"
    both = [{"tenant_id": "acme", "some": True}, {"tenant_id": "globex", "some": True}]

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert checked.code == 0, checked.out + checked.err
    assert "schema_not_compared" not in second.err
    assert tried.code == 0, tried.err
    for source in ("probe", "later"):
        assert await query(url, count.format(source)) == both

    await query(server.admin_url(), f"CREATE ROLE grafana_{database_of(url)} LOGIN")
    try:
        reader = f"grafana_{database_of(url)}"
        added = await harvestd("reader", "add", reader, "--json", url=url)
        listed = await harvestd("reader", "list", "--json", url=url)
        looked = await harvestd("sql", "SELECT count(*) FROM probe.event", "--json", url=url)
        doctor = await harvestd("doctor", "--json", url=url, settings=settings)
        removed = await harvestd("reader", "remove", reader, "--json", url=url)
    finally:
        await query(server.admin_url(), f"DROP ROLE grafana_{database_of(url)}")

    assert added.json["changed"] and removed.json["changed"]
    assert [one["role"] for one in listed.json] == [reader]
    assert looked.code == 0, looked.err
    assert levels(doctor)["role"] == ("ok" if "owns" in doctor.out else "warn")
    assert levels(doctor)["wall"] == "ok", doctor.out
    assert doctor.json["failed"] == 0


async def test_the_roles_are_also_printed_where_nobody_needs_them_and_only_alone(
    server: Cluster, database_url: str
) -> None:
    done = await harvestd("migrate", "--print-roles", "--json", url=database_url)
    both = await harvestd("migrate", "--print-roles", "--harden", url=database_url)
    await make_keeper(server, database_url)
    again = await harvestd("migrate", url=database_url)
    doctor = await harvestd("doctor", "--json", url=database_url)

    assert done.json["needed"] is False
    assert done.json["script"].startswith("-- harvestd's roles for the database test_")
    assert both.code == 2
    assert "goes alone" in both.err
    assert again.code == 0
    assert levels(doctor)["wall"] == "ok"
