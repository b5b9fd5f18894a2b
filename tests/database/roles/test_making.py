"""Roles on a real PostgreSQL, made by a plain role, once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from harvestd.database.logins import ensure_seat, ensure_source_role, scram_verifier
from harvestd.database.pool import closing
from harvestd.database.roles import Roles, ensure_roles
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
from tests.database.roles.logins import Connection, login, seated
from tests.keepers import make_keeper

HEX = "0123abcd"


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
            with pytest.raises(DatabaseError, match="made through another role"):
                await ensure_roles(connection)
            await make_keeper(server, migrated_database)
        assert await ensure_roles(connection) == roles
        await ensure_seat(connection, roles, 1, scram_verifier("x"))
        await ensure_source_role(connection, roles, "git", scram_verifier("x"))
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
