"""Migrations on a real PostgreSQL: applied whole, once, in order, or refused with the reason."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any, TypeAlias

import asyncpg
import pytest

from harvestd.database import migrations
from harvestd.database.migrations import Migration, check_schema, load_migrations, migrate, pending
from harvestd.errors import DatabaseError, SchemaTooNew, SchemaTooOld
from tests.clusters import Cluster, database_of

Connection: TypeAlias = "asyncpg.Connection[Any]"
NAMES = tuple(migration.name for migration in load_migrations())
PATIENCE = 30.0
BUSY_TABLE = "CREATE TABLE public.tenant (id text PRIMARY KEY, name text NOT NULL)"


def later(number: int, *, breaking: bool) -> Migration:
    """A migration that the next version might bring."""
    table = f"harvestd.later_{number}"
    return Migration(number, f"{number:04d}_later", "0" * 64, breaking, f"CREATE TABLE {table} ()")


async def applied(connection: Connection) -> list[str]:
    rows = await connection.fetch("SELECT name FROM harvestd.schema_migration ORDER BY number")
    return [row["name"] for row in rows]


async def test_an_empty_database_is_migrated_without_being_asked(connection: Connection) -> None:
    said: list[str] = []

    assert await migrate(connection, explicit=False, report=said.append) == NAMES

    assert await applied(connection) == list(NAMES)
    assert said == [f"applied {name}" for name in NAMES]
    await check_schema(connection)


async def test_migrating_again_changes_nothing(connection: Connection) -> None:
    await migrate(connection, explicit=True)
    before = await connection.fetch("SELECT * FROM harvestd.schema_migration ORDER BY number")

    assert await migrate(connection, explicit=True) == ()

    after = await connection.fetch("SELECT * FROM harvestd.schema_migration ORDER BY number")
    assert after == before


async def test_two_replicas_that_start_at_once_apply_each_migration_once(
    empty_database: str,
) -> None:
    replicas = [await asyncpg.connect(empty_database) for _ in range(4)]
    try:
        done = await asyncio.gather(*(migrate(replica, explicit=False) for replica in replicas))

        assert sorted(name for names in done for name in names) == sorted(NAMES)
        assert await applied(replicas[0]) == list(NAMES)
    finally:
        for replica in replicas:
            await replica.close()


async def test_a_killed_migration_leaves_whole_migrations_only(
    empty_database: str, connection: Connection
) -> None:
    await connection.execute(BUSY_TABLE)
    program = (
        "import asyncio, asyncpg, sys\n"
        "from harvestd.database.migrations import migrate\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        "    say = lambda line: print(line, flush=True)\n"
        "    await migrate(connection, explicit=True, report=say)\n"
        "asyncio.run(main())\n"
    )
    async with connection.transaction():
        await connection.execute("LOCK TABLE public.tenant IN ACCESS EXCLUSIVE MODE")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, empty_database),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        said = await asyncio.wait_for(child.stdout.readline(), PATIENCE)
        child.kill()
        await child.wait()

    assert said.decode().strip() == f"applied {NAMES[0]}"
    assert await applied(connection) == [NAMES[0]]
    assert not await column_exists(connection, "tenant", "runs_max")
    assert await migrate(connection, explicit=True) == NAMES[1:]


async def test_a_cancelled_migration_leaves_whole_migrations_only(
    empty_database: str, connection: Connection
) -> None:
    await connection.execute(BUSY_TABLE)
    other = await asyncpg.connect(empty_database)
    first = asyncio.Event()
    async with connection.transaction():
        await connection.execute("LOCK TABLE public.tenant IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(migrate(other, explicit=True, report=lambda line: first.set()))
        await asyncio.wait_for(first.wait(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await applied(connection) == [NAMES[0]]
    assert other.is_closed()
    assert await migrate(connection, explicit=True) == NAMES[1:]


async def test_a_failing_migration_is_rolled_back_and_named(connection: Connection) -> None:
    half = Migration(
        9_000, "9000_half", "5" * 64, False, "CREATE TABLE harvestd.half (); SELECT 1/0"
    )

    with pytest.raises(DatabaseError, match="9000_half") as raised:
        await migrate(connection, explicit=True, known=(*load_migrations(), half))

    assert raised.value.sqlstate == "22012"
    assert await applied(connection) == list(NAMES)
    assert await connection.fetchval("SELECT to_regclass('harvestd.half')") is None


async def test_a_busy_table_is_not_waited_for_longer_than_seconds(
    empty_database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.05)
    await connection.execute(BUSY_TABLE)
    other = await asyncpg.connect(empty_database)
    async with connection.transaction():
        await connection.execute("LOCK TABLE public.tenant IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseError, match="again") as raised:
            await migrate(other, explicit=True)
    await other.close()

    assert NAMES[1] in raised.value.what
    assert raised.value.sqlstate == "55P03"


async def test_a_changed_file_is_refused_by_its_name(connection: Connection) -> None:
    await migrate(connection, explicit=True)
    first, *others = load_migrations()
    changed = (replace(first, checksum="f" * 64), *others)

    with pytest.raises(DatabaseError, match=f"{first.name} was changed"):
        await migrate(connection, explicit=True, known=changed)


async def test_an_older_replica_goes_on_beside_a_schema_that_does_not_break_it(
    connection: Connection,
) -> None:
    await migrate(
        connection, explicit=True, known=(*load_migrations(), later(9_000, breaking=False))
    )

    await check_schema(connection)
    assert await migrate(connection, explicit=False) == ()


async def test_an_older_replica_refuses_a_schema_that_breaks_it(connection: Connection) -> None:
    await migrate(
        connection, explicit=True, known=(*load_migrations(), later(9_000, breaking=True))
    )

    with pytest.raises(SchemaTooNew, match="9000_later"):
        await check_schema(connection)
    with pytest.raises(SchemaTooNew, match="9000_later"):
        await migrate(connection, explicit=False)


async def test_an_older_database_is_migrated_without_being_asked(connection: Connection) -> None:
    await migrate(connection, explicit=True)
    newer = (*load_migrations(), later(9_000, breaking=False))

    with pytest.raises(SchemaTooOld, match="harvestd migrate"):
        await check_schema(connection, known=newer)

    assert await migrate(connection, explicit=False, known=newer) == ("9000_later",)
    await check_schema(connection, known=newer)


async def test_a_breaking_migration_is_left_to_harvestd_migrate(connection: Connection) -> None:
    await migrate(connection, explicit=True)
    newer = (*load_migrations(), later(9_000, breaking=True))

    with pytest.raises(SchemaTooOld, match="harvestd migrate"):
        await migrate(connection, explicit=False, known=newer)

    assert await applied(connection) == list(NAMES)
    assert await migrate(connection, explicit=True, known=newer) == ("9000_later",)


async def test_breaking_migrations_are_no_obstacle_on_an_empty_database(
    connection: Connection,
) -> None:
    newer = (*load_migrations(), later(9_000, breaking=True))

    assert await migrate(connection, explicit=False, known=newer) == (*NAMES, "9000_later")


async def test_a_database_that_was_never_migrated_is_too_old(connection: Connection) -> None:
    with pytest.raises(SchemaTooOld, match=NAMES[0]):
        await check_schema(connection)


async def test_a_lost_connection_is_unreachable(connection: Connection) -> None:
    connection.terminate()

    with pytest.raises(DatabaseError, match="cannot be reached"):
        await check_schema(connection)


async def test_a_role_without_rights_is_told_what_the_owner_runs(
    server: Cluster, empty_database: str
) -> None:
    name = database_of(empty_database)
    admin = await asyncpg.connect(server.admin_url(name))
    await admin.execute(f"ALTER DATABASE {name} OWNER TO postgres")
    guest = await asyncpg.connect(empty_database)
    try:
        with pytest.raises(DatabaseError, match="GRANT CREATE ON DATABASE"):
            await migrate(guest, explicit=True)
        await admin.execute(f"GRANT CREATE ON DATABASE {name} TO app")
        with pytest.raises(DatabaseError, match="GRANT CREATE ON SCHEMA public"):
            await migrate(guest, explicit=True)
        await admin.execute("GRANT CREATE ON SCHEMA public TO app")
        assert await migrate(guest, explicit=True) == NAMES
    finally:
        await guest.close()
        await admin.close()


async def test_nothing_is_granted_to_everybody(connection: Connection) -> None:
    await migrate(connection, explicit=True)

    schemas = "('harvestd'::regnamespace, 'harvestd_api'::regnamespace)"
    open_to_all = await connection.fetch(
        f"SELECT oid::regprocedure::text FROM pg_proc, aclexplode(coalesce(proacl, "
        f"acldefault('f', proowner))) AS given WHERE pronamespace IN {schemas} AND grantee = 0"
        f" UNION ALL SELECT oid::regclass::text FROM pg_class, aclexplode(relacl) AS given"
        f" WHERE relnamespace IN {schemas} AND grantee = 0"
        f" UNION ALL SELECT nspname::text FROM pg_namespace, aclexplode(nspacl) AS given"
        f" WHERE oid IN {schemas} AND grantee = 0"
    )
    assert open_to_all == []


async def test_history_is_kept_by_the_month_of_utc(connection: Connection) -> None:
    await migrate(connection, explicit=True)
    await connection.execute("SET timezone = 'America/Santiago'")

    for _ in range(2):
        await connection.execute("SELECT harvestd.make_history_partitions()")

    await connection.execute("SET timezone = 'UTC'")
    bounds = await connection.fetch(
        "SELECT relname::text AS name, pg_get_expr(relpartbound, oid) AS bound FROM pg_class"
        " WHERE relispartition AND relkind = 'r' AND relname <> 'run_history_default'"
        " ORDER BY relname"
    )
    now = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    assert bounds[0]["name"] == f"run_history_{now}"
    assert len(bounds) == 3
    assert all(row["bound"].count("-01 00:00:00+00'") == 2 for row in bounds)
    await connection.execute(
        "INSERT INTO harvestd.run_history (ended_at, run_no, fence, tenant_id, data_source,"
        " script, started_at, outcome) VALUES (now(), 1, 1, 't', 's', 'x', now(), 'completed')"
    )
    home = await connection.fetchval("SELECT tableoid::regclass::text FROM harvestd.run_history")
    assert home == f"harvestd.run_history_{now}"


async def column_exists(connection: Connection, table: str, column: str) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = $1 AND column_name = $2)",
            table,
            column,
        )
    )


def test_a_migration_that_was_forgotten_between_others_is_refused() -> None:
    known = load_migrations()
    recorded = {migration.number: migration for migration in known if migration.number != 2}

    with pytest.raises(DatabaseError, match="forward only"):
        pending(known, recorded)


@pytest.mark.parametrize(("version", "refused"), [(140011, True), (150000, False), (180004, False)])
def test_servers_before_15_are_refused(version: int, refused: bool) -> None:
    if not refused:
        migrations.refuse_old_server(version)
        return
    with pytest.raises(DatabaseError, match="PostgreSQL 14 is too old"):
        migrations.refuse_old_server(version)


def test_every_migration_is_numbered_and_says_whether_it_breaks() -> None:
    assert [migration.number for migration in load_migrations()] == list(range(1, len(NAMES) + 1))
    assert all(len(migration.checksum) == 64 for migration in load_migrations())
