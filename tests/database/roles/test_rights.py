"""What each role may do on a real PostgreSQL, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from harvestd.database.logins import ensure_seat, ensure_source_role, scram_verifier
from harvestd.database.pool import LOST
from harvestd.database.roles import Roles, ensure_roles
from tests.builders import query
from tests.clusters import Cluster, database_of
from tests.database.roles.logins import Connection, login, seated
from tests.keepers import make_keeper, without_createrole

DATA_TABLE = """
    CREATE SCHEMA git AUTHORIZATION {source};
    SET ROLE {source};
    CREATE TABLE git.commit (
        tenant_id text NOT NULL DEFAULT harvestd_api.tenant(),
        sha text,
        PRIMARY KEY (tenant_id, sha)
    );
    ALTER TABLE git.commit ENABLE ROW LEVEL SECURITY;
    CREATE POLICY harvestd_tenant ON git.commit TO {exec}
        USING (tenant_id = (SELECT harvestd_api.tenant()))
        WITH CHECK (tenant_id = (SELECT harvestd_api.tenant()));
    CREATE TRIGGER harvestd_guard BEFORE INSERT OR UPDATE OR DELETE ON git.commit
        FOR EACH STATEMENT EXECUTE FUNCTION harvestd_api.guard();
    GRANT USAGE ON SCHEMA git TO {exec};
    GRANT SELECT, INSERT ON git.commit TO {exec};
    RESET ROLE;
"""
BIND = """
    WITH run AS (
        INSERT INTO public.data_source_run (tenant_id, data_source, script, origin)
        VALUES ($1, 'git', 'commit', '2026-01-01Z')
        ON CONFLICT (tenant_id, data_source, script) DO UPDATE SET fence = data_source_run.fence
        RETURNING *)
    INSERT INTO harvestd.binding (pid, seat, backend_start, run_no, fence, replica_id, tenant_id,
                                  data_source, script, handed_from, covers)
    SELECT $2, pg_get_userbyid(activity.usesysid), activity.backend_start, run.run_no, run.fence,
           gen_random_uuid(), run.tenant_id, run.data_source, run.script, '2026-01-01Z',
           '[2026-01-01Z, 2026-01-02Z)'
    FROM run, pg_stat_get_activity($2) AS activity
"""


@pytest.fixture(params=["statements", "keeper"])
async def roles(
    request: pytest.FixtureRequest, server: Cluster, migrated_database: str, connection: Connection
) -> AsyncIterator[Roles]:
    """Both ways of making them give the same rights."""
    if request.param == "statements":
        yield await ensure_roles(connection)
        return
    async with without_createrole(server):
        await make_keeper(server, migrated_database)
        yield await ensure_roles(connection)


async def test_the_daemon_role_has_every_right_on_harvestds_tables(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    lacking = await connection.fetch(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND relnamespace IN ('harvestd'::regnamespace, 'public'::regnamespace)"
        " AND NOT has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE')",
        roles.daemon,
    )
    assert lacking == []


async def test_a_replica_starts_where_a_newer_one_made_functions_and_tables(
    connection: Connection, roles: Roles
) -> None:
    await connection.execute(
        "CREATE FUNCTION harvestd_api.later() RETURNS int RETURN 1;"
        "REVOKE EXECUTE ON FUNCTION harvestd_api.later() FROM PUBLIC;"
        "CREATE TABLE harvestd.later (n int)"
    )

    assert await ensure_roles(connection) == roles

    later = "SELECT has_function_privilege($1, 'harvestd_api.later()', 'EXECUTE')"
    assert await connection.fetchval(later, roles.exec) is False


async def test_a_replica_from_before_empty_schema_finds_the_rights_that_it_asks_for(
    connection: Connection, roles: Roles
) -> None:
    lacking = await connection.fetch(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = 'harvestd_api'::regnamespace AND proname <> 'guard'"
        " AND NOT has_function_privilege($1, oid, 'EXECUTE')",
        roles.exec,
    )
    assert lacking == []


async def test_a_seat_logs_in_with_the_password_of_its_verifier(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    seat = await seated(server, connection, migrated_database, roles)
    try:
        assert await seat.fetchval("SELECT session_user::text") == roles.seat(7)
        assert await seat.fetchval("SELECT harvestd_api.tenant()") is None
        await seat.execute("CREATE TEMP TABLE staging (x integer)")
    finally:
        await seat.close()


async def test_a_seat_that_lost_its_membership_has_it_again_when_it_is_leased(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 7, scram_verifier("word"))
    admin = server.admin_url(database_of(migrated_database))
    (by,) = await query(
        admin,
        "SELECT grantor::regrole::text AS grantor FROM pg_auth_members"
        f" WHERE member = '{roles.seat(7)}'::regrole",
    )
    await query(admin, f"REVOKE {roles.exec} FROM {roles.seat(7)} GRANTED BY {by['grantor']}")
    seat = await seated(server, connection, migrated_database, roles)
    try:
        assert await seat.fetchval("SELECT harvestd_api.tenant()") is None
    finally:
        await seat.close()


async def test_a_new_password_locks_out_who_knows_the_old_one(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 7, scram_verifier("old"))
    await ensure_seat(connection, roles, 7, scram_verifier("new"))

    with pytest.raises(asyncpg.InvalidPasswordError):
        await login(server, migrated_database, roles.seat(7), "old")
    await (await login(server, migrated_database, roles.seat(7), "new")).close()


async def test_a_seat_has_two_connections_at_most(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 7, scram_verifier("word"))
    open_ = [await login(server, migrated_database, roles.seat(7), "word") for _ in range(2)]
    try:
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await login(server, migrated_database, roles.seat(7), "word")
    finally:
        for one in open_:
            await one.close()


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT * FROM harvestd.binding",
        "SELECT harvestd.me()",
        "SELECT * FROM public.tenant_data_source_config",
        "UPDATE public.data_source_run SET fence = 0",
        "SELECT harvestd_api.guard()",
        "SET ROLE {daemon}",
        "SET ROLE app",
        "SET SESSION AUTHORIZATION app",
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine ()",
        "CREATE ROLE mine",
        "ALTER ROLE {other} PASSWORD 'x'",
        "GRANT {daemon} TO {seat}",
        "SELECT pg_terminate_backend({pid})",
    ],
)
async def test_a_seat_may_not(
    attempt: str, server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 8, scram_verifier("other"))
    seat = await seated(server, connection, migrated_database, roles)
    names = {"daemon": roles.daemon, "seat": roles.seat(7), "other": roles.seat(8)}
    try:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
            await seat.execute(attempt.format(pid=connection.get_server_pid(), **names))
    finally:
        await seat.close()


async def test_the_daemon_sees_and_ends_a_seats_backend_but_cannot_become_it(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    seat = await seated(server, connection, migrated_database, roles)
    pid = seat.get_server_pid()
    await seat.execute("SELECT 'what the plugin asked'")

    query = await connection.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
    assert query == "SELECT 'what the plugin asked'"
    if server.major >= 16:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SET ROLE {roles.seat(7)}")
    assert await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    with pytest.raises((asyncpg.PostgresError, *LOST)):
        await seat.execute("SELECT 1")
    seat.terminate()


async def test_a_bound_seat_writes_and_reads_its_tenants_rows_only(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_source_role(connection, roles, "git", scram_verifier("x"))
    await connection.execute(DATA_TABLE.format(source=roles.source("git"), exec=roles.exec))
    seat = await seated(server, connection, migrated_database, roles)
    other = await seated(server, connection, migrated_database, roles, seat_no=8)
    try:
        await connection.execute(BIND, "acme", seat.get_server_pid())
        await connection.execute(BIND, "bolt", other.get_server_pid())
        await seat.execute("INSERT INTO git.commit (sha) VALUES ('a1')")
        await other.execute("INSERT INTO git.commit (sha) VALUES ('b1')")

        assert await seat.fetch("SELECT tenant_id, sha FROM git.commit") == [("acme", "a1")]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await seat.execute("INSERT INTO git.commit VALUES ('bolt', 'forged')")
        await connection.execute("UPDATE public.data_source_run SET fence = fence + 1")
        with pytest.raises(asyncpg.PostgresError) as raised:
            await seat.execute("INSERT INTO git.commit (sha) VALUES ('a2')")
        assert raised.value.sqlstate == "HD001"
    finally:
        await seat.close()
        await other.close()


async def test_checkpoint_and_bookmark_obey_the_binding(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    seat = await seated(server, connection, migrated_database, roles)
    try:
        await connection.execute(BIND, "acme", seat.get_server_pid())
        await seat.execute("SELECT harvestd_api.checkpoint('2026-01-01 12:00Z')")
        await seat.execute("SELECT harvestd_api.checkpoint('2026-01-01 12:00Z')")
        for outside in ("2026-01-01 11:00Z", "2026-01-01 00:00Z", "2026-01-03 00:00Z"):
            with pytest.raises(asyncpg.PostgresError) as raised:
                await seat.execute(f"SELECT harvestd_api.checkpoint('{outside}')")
            assert raised.value.sqlstate == "HD002"
        await seat.execute("SELECT harvestd_api.set_bookmark('heads', '[1]')")
        assert await seat.fetchval("SELECT harvestd_api.bookmark('heads')") == "[1]"
        await seat.execute("SELECT harvestd_api.set_bookmark('heads', NULL)")
        assert await seat.fetchval("SELECT harvestd_api.bookmark('heads')") is None
    finally:
        await seat.close()

    run = await connection.fetchrow(
        "SELECT covered = '{[2026-01-01Z, 2026-01-01 12:00Z)}' AS ledger,"
        " last_fetched_data_date = '2026-01-01 12:00Z' AS watermark FROM public.data_source_run"
    )
    assert run == (True, True)


async def test_a_source_role_owns_its_schema_and_nothing_else(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_source_role(connection, roles, "git", scram_verifier("word"))
    await connection.execute(f"CREATE SCHEMA git AUTHORIZATION {roles.source('git')}")
    source = await login(server, migrated_database, roles.source("git"), "word")
    try:
        await source.execute(
            "CREATE TABLE git.probe (tenant_id text DEFAULT harvestd_api.tenant());"
            "CREATE TRIGGER harvestd_guard BEFORE INSERT ON git.probe FOR EACH STATEMENT"
            " EXECUTE FUNCTION harvestd_api.guard()"
        )
        for attempt in (
            "CREATE SCHEMA other",
            "SELECT * FROM harvestd.binding",
            "SELECT * FROM public.tenant",
            "SELECT harvestd_api.bookmark('x')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await source.execute(attempt)
    finally:
        await source.close()
