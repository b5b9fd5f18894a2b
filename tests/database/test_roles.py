"""Roles on a real PostgreSQL, made by a plain role: what each may do, and no more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

from harvestd.database.pool import LOST, closing
from harvestd.database.roles import (
    Roles,
    ensure_roles,
    ensure_seat,
    ensure_source_role,
    scram_verifier,
)
from harvestd.errors import DatabaseError
from tests.clusters import (
    DAEMON_ROLE,
    Cluster,
    create_database,
    database_of,
    drop_database,
    drop_roles,
    installation_hex,
)

Connection: TypeAlias = "asyncpg.Connection[Any]"
HEX = "0123abcd"
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


@pytest.fixture
async def connection(migrated_database: str) -> AsyncIterator[Connection]:
    """As the daemon's plain role, in a migrated database without roles."""
    connection = await asyncpg.connect(migrated_database)
    yield connection
    await connection.close()


@pytest.fixture
async def roles(connection: Connection) -> Roles:
    return await ensure_roles(connection)


async def login(server: Cluster, database: str, role: str, password: str) -> Connection:
    return await asyncpg.connect(server.url(database_of(database), role, password))


async def seated(
    server: Cluster, connection: Connection, database: str, roles: Roles, seat_no: int = 7
) -> Connection:
    password = secrets.token_urlsafe(12)
    await ensure_seat(connection, roles, seat_no, scram_verifier(password))
    return await login(server, database, roles.seat(seat_no), password)


async def role_names(connection: Connection, roles: Roles) -> list[str]:
    rows = await connection.fetch(
        "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY 1", roles.prefix
    )
    return [row[0] for row in rows]


async def test_the_daemon_of_the_suite_is_a_plain_role(connection: Connection) -> None:
    row = await connection.fetchrow(
        "SELECT rolname::text, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = session_user"
    )
    assert row is not None
    assert tuple(row) == (DAEMON_ROLE, False, True)


async def test_roles_are_made_once_and_noted(connection: Connection) -> None:
    roles = await ensure_roles(connection)
    granted = "SELECT roleid, member, grantor FROM pg_auth_members ORDER BY 1, 2, 3"
    before = await connection.fetch(granted)

    assert await ensure_roles(connection) == roles

    assert await connection.fetch(granted) == before
    assert await role_names(connection, roles) == [roles.daemon, roles.exec, roles.reader]
    stored = await connection.fetchrow("SELECT * FROM harvestd.installation")
    assert stored is not None
    assert stored["hex"] == roles.hex
    assert roles.hex == installation_hex(stored["system_identifier"], stored["database_oid"])


async def test_nothing_is_written_and_one_query_asked_when_nothing_is_missing(
    connection: Connection, roles: Roles
) -> None:
    asked: list[str] = []
    with connection.query_logger(lambda record: asked.append(record.query)):
        await ensure_roles(connection)
        await asyncio.sleep(0)  # the logger is called by the loop

    assert len(asked) == 1
    async with connection.transaction(readonly=True):
        assert await ensure_roles(connection) == roles


async def test_two_replicas_may_ask_for_roles_at_once(migrated_database: str) -> None:
    replicas = [await asyncpg.connect(migrated_database) for _ in range(4)]
    try:
        made = await asyncio.gather(*(ensure_roles(replica) for replica in replicas))
        await asyncio.gather(
            *(ensure_seat(replica, made[0], 1, scram_verifier("x")) for replica in replicas),
        )
        await asyncio.gather(
            *(ensure_source_role(rep, made[0], "git", scram_verifier("x")) for rep in replicas),
        )
    finally:
        for replica in replicas:
            await replica.close()

    assert len(set(made)) == 1


async def test_a_right_that_was_taken_away_is_given_again(
    connection: Connection, roles: Roles
) -> None:
    await connection.execute(
        f"REVOKE EXECUTE ON FUNCTION harvestd_api.tenant() FROM {roles.exec};"
        f"REVOKE TEMPORARY ON DATABASE {await this_database(connection)} FROM {roles.exec};"
        f"REVOKE DELETE ON harvestd.bookmark FROM {roles.daemon}"
    )

    await ensure_roles(connection)

    assert await connection.fetchval(
        "SELECT has_function_privilege($1, 'harvestd_api.tenant()', 'EXECUTE')"
        " AND has_table_privilege($2, 'harvestd.bookmark', 'DELETE')",
        roles.exec,
        roles.daemon,
    )


async def this_database(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT quote_ident(current_database())"))


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


async def test_a_clone_makes_roles_of_its_own_and_takes_back_the_originals(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 7, scram_verifier("word"))
    await connection.close()
    name = await create_database(server, template=database_of(migrated_database))
    clone = await asyncpg.connect(server.url(name))
    try:
        own = await ensure_roles(clone)

        assert own.hex != roles.hex
        assert await clone.fetchval("SELECT hex FROM harvestd.installation") == own.hex
        intruder = await login(server, server.url(name), roles.seat(7), "word")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await intruder.fetchval("SELECT harvestd_api.tenant()")
        await intruder.close()
        original = await asyncpg.connect(server.admin_url(database_of(migrated_database)))
        await drop_roles(original, roles.hex)
        await original.close()
    finally:
        await clone.close()
        await drop_database(server, name)


async def test_a_role_that_may_not_create_roles_is_told_what_a_superuser_runs(
    server: Cluster, migrated_database: str, connection: Connection
) -> None:
    admin = await asyncpg.connect(server.admin_url())
    try:
        await admin.execute(f"ALTER ROLE {DAEMON_ROLE} NOCREATEROLE")
        with pytest.raises(DatabaseError, match='ALTER ROLE "app" CREATEROLE') as raised:
            await ensure_roles(connection)
    finally:
        await admin.execute(f"ALTER ROLE {DAEMON_ROLE} CREATEROLE")
        await admin.close()

    assert "missing: " in raised.value.why
    assert "_exec" in raised.value.why
    assert await ensure_roles(connection)


async def test_roles_made_by_a_superuser_are_told_from_missing_ones(
    server: Cluster, migrated_database: str, connection: Connection
) -> None:
    admin = await asyncpg.connect(server.admin_url(database_of(migrated_database)))
    roles = await ensure_roles(admin)
    try:
        if server.major >= 16:  # before that CREATEROLE is enough to grant any role
            with pytest.raises(DatabaseError, match="ADMIN OPTION"):
                await ensure_roles(connection)
            await admin.execute(f'GRANT {roles.daemon} TO "{DAEMON_ROLE}" WITH ADMIN OPTION')
        assert await ensure_roles(connection) == roles
    finally:
        await admin.close()


async def test_a_superuser_may_be_the_daemon(server: Cluster, migrated_database: str) -> None:
    async with closing(
        await asyncpg.connect(server.admin_url(database_of(migrated_database)))
    ) as admin:
        roles = await ensure_roles(admin)
        await ensure_source_role(admin, roles, "git", scram_verifier("word"))
        seat = await seated(server, admin, migrated_database, roles)
        await seat.close()


async def test_a_cancelled_call_leaves_no_transaction_open(
    migrated_database: str, connection: Connection, roles: Roles
) -> None:
    other = await asyncpg.connect(migrated_database)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x68726F6C)
        task = asyncio.create_task(ensure_seat(other, roles, 1, scram_verifier("x")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert other.is_closed()
    await ensure_seat(connection, roles, 1, scram_verifier("x"))


def test_names_of_roles_fit_postgresql() -> None:
    roles = Roles(HEX)
    long, longer = "a" * 62, "a" * 63

    assert roles.seat(7) == "harvestd_0123abcd_seat_007"
    assert roles.source("git") == "harvestd_0123abcd_src_git"
    assert len(roles.source(long)) == len(roles.source(longer)) == 63
    assert roles.source(long) != roles.source(longer)


@pytest.mark.parametrize("wrong", ["0123ABCD", "0123abc", "0123abcd; DROP", ""])
def test_only_eight_hex_digits_name_an_installation(wrong: str) -> None:
    with pytest.raises(ValueError, match="eight hex digits"):
        Roles(wrong)


@pytest.mark.parametrize("source", ["Git", "git; DROP", "", "a" * 64])
def test_only_names_of_data_sources_become_roles(source: str) -> None:
    with pytest.raises(ValueError, match="not the name of a data source"):
        Roles(HEX).source(source)


def test_a_verifier_is_salted_and_never_holds_the_password() -> None:
    one, two = scram_verifier("correct horse"), scram_verifier("correct horse")

    assert one != two
    assert "horse" not in one
    with pytest.raises(ValueError, match="ASCII"):
        scram_verifier("pässword")


async def test_what_is_no_verifier_is_refused_unseen(connection: Connection) -> None:
    with pytest.raises(ValueError, match=r"^not a SCRAM verifier$"):
        await ensure_seat(connection, Roles(HEX), 1, "a'; DROP ROLE app; --")
