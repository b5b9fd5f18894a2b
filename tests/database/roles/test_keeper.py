"""The keeper: what a daemon without CREATEROLE can do with roles, and that it is no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import asyncpg
import pytest

from harvestd.database.functions import find_replaced_functions
from harvestd.database.keeper import FUNCTIONS, has_keeper, print_roles
from harvestd.database.logins import (
    drop_source_role,
    ensure_seat,
    ensure_source_role,
    scram_verifier,
)
from harvestd.database.pool import closing
from harvestd.database.roles import Roles, ensure_roles
from harvestd.errors import DatabaseError
from tests.builders import query
from tests.clusters import (
    DAEMON_ROLE,
    Cluster,
    create_database,
    database_of,
    drop_database,
)
from tests.database.roles.logins import Connection, login, seated
from tests.keepers import make_keeper, without_createrole

ALL_ROLES = (
    "SELECT rolname, rolsuper, rolcreaterole, rolcanlogin, rolbypassrls, rolpassword,"
    " (SELECT array_agg(roleid::regrole::text ORDER BY 1) FROM pg_auth_members"
    "  WHERE member = pg_authid.oid) AS member_of FROM pg_authid ORDER BY 1"
)
VERIFIER = scram_verifier("word")
STRANGE_SEATS = (
    "postgres",
    DAEMON_ROLE,
    "{prefix}daemon",
    "{prefix}exec",
    "{prefix}keeper",
    "{prefix}src_git",
    "{prefix}seat_1",
    "{prefix}seat_0000001",
    "{prefix}seat_001\n",
    "\n{prefix}seat_001",
    "{prefix}seat_001 SUPERUSER",
    '{prefix}seat_001"; ALTER ROLE postgres PASSWORD NULL; --',
    "x'{prefix}seat_001",
    "HARVESTD_{hex}_seat_001",
    "harvestd_00000000_seat_001",
    "harvestd_........_seat_001",
    "",
    None,
)
STRANGE_VERIFIERS = (
    "word",
    "",
    None,
    "md5" + "0" * 32,
    f"{VERIFIER}\n",
    f"{VERIFIER}' SUPERUSER --",
    f"{VERIFIER[:-1]}'",
    "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$x:y",
)


@pytest.fixture
async def roles(
    server: Cluster, migrated_database: str, connection: Connection
) -> AsyncIterator[Roles]:
    async with without_createrole(server):
        await make_keeper(server, migrated_database)
        yield await ensure_roles(connection)


async def all_roles(server: Cluster) -> list[dict[str, Any]]:
    return await query(server.admin_url(), ALL_ROLES)


async def test_logins_are_made_changed_and_dropped_without_createrole(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_seat(connection, roles, 7, scram_verifier("old"))
    await ensure_seat(connection, roles, 7, scram_verifier("new"))
    await ensure_source_role(connection, roles, "git", VERIFIER)
    await ensure_source_role(connection, roles, "a" * 63, VERIFIER)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await login(server, migrated_database, roles.seat(7), "old")
    await (await login(server, migrated_database, roles.seat(7), "new")).close()
    await (await login(server, migrated_database, roles.source("git"), "word")).close()
    await drop_source_role(connection, roles, "git")

    left = {row["rolname"] for row in await all_roles(server)}
    assert roles.source("git") not in left
    assert roles.source("a" * 63) in left


async def test_a_seat_loses_what_it_has_set_for_its_login(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    seat = await seated(server, connection, migrated_database, roles)
    await seat.execute(f"ALTER ROLE {roles.seat(7)} SET search_path = 'left'")
    await seat.close()
    seat = await seated(server, connection, migrated_database, roles)
    assert await seat.fetchval("SHOW search_path") == '"$user", public'
    await seat.close()


@pytest.mark.parametrize("by", ["statements", "a keeper"])
async def test_a_login_that_expired_or_may_not_connect_is_mended_with_its_new_password(
    server: Cluster, migrated_database: str, connection: Connection, by: str
) -> None:
    if by == "a keeper":
        await make_keeper(server, migrated_database)
    async with without_createrole(server) if by == "a keeper" else nullcontext():
        roles = await ensure_roles(connection)
        await ensure_seat(connection, roles, 7, VERIFIER)
        await ensure_source_role(connection, roles, "git", VERIFIER)
        for name in (roles.seat(7), roles.source("git")):
            spoilt = f"ALTER ROLE {name} VALID UNTIL '2001-02-03' CONNECTION LIMIT 0"
            await query(server.admin_url(), spoilt)
        await ensure_seat(connection, roles, 7, VERIFIER)
        await ensure_source_role(connection, roles, "git", VERIFIER)

    for name in (roles.seat(7), roles.source("git")):
        await (await login(server, migrated_database, name, "word")).close()


@pytest.mark.parametrize("function", ["seat", "source"])
@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_no_login_of_another_name_is_made_or_changed(
    server: Cluster, connection: Connection, roles: Roles, function: str, conforming: str
) -> None:
    await connection.execute(f"SET standard_conforming_strings = {conforming}")
    before = await all_roles(server)
    for strange in STRANGE_SEATS:
        name = strange and strange.format(prefix=roles.prefix, hex=roles.hex)
        if function == "source" and name == roles.source("git"):
            name = roles.source("git") + "a" * 60
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT harvestd_keeper.{function}($1, $2)", name, VERIFIER)

    assert await all_roles(server) == before


@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_no_password_in_clear_and_no_sql_passes_for_a_verifier(
    server: Cluster, connection: Connection, roles: Roles, conforming: str
) -> None:
    await connection.execute(f"SET standard_conforming_strings = {conforming}")
    before = await all_roles(server)
    for strange in STRANGE_VERIFIERS:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"^not a SCRAM verifier$"):
            await connection.execute("SELECT harvestd_keeper.seat($1, $2)", roles.seat(1), strange)

    assert await all_roles(server) == before


@pytest.mark.parametrize("name", ["open_source", "close_source", "drop_source"])
async def test_no_other_role_is_opened_closed_or_dropped(
    server: Cluster, connection: Connection, roles: Roles, name: str
) -> None:
    await ensure_seat(connection, roles, 1, VERIFIER)
    before = await all_roles(server)
    others = ("postgres", DAEMON_ROLE, roles.exec, roles.seat(1), "harvestd_00000000_src_git", None)
    for other in others:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT harvestd_keeper.{name}($1)", other)

    assert await all_roles(server) == before


async def test_harvestds_own_roles_and_everybody_are_made_no_readers(
    server: Cluster, connection: Connection, roles: Roles
) -> None:
    before = await all_roles(server)
    for name in (roles.exec, roles.keeper, "harvestd_00000000_exec", None, "public", "app, app"):
        for reads in (True, False, None):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute("SELECT harvestd_keeper.reader($1, $2)", name, reads)

    assert await all_roles(server) == before


async def test_a_superuser_of_a_fitting_name_is_not_touched(
    server: Cluster, connection: Connection, roles: Roles
) -> None:
    await query(server.admin_url(), f"CREATE ROLE {roles.seat(5)} SUPERUSER NOLOGIN")
    await query(server.admin_url(), f"CREATE ROLE {roles.source('git')} SUPERUSER NOLOGIN")
    before = await all_roles(server)
    for call in (
        f"seat('{roles.seat(5)}', '{VERIFIER}')",
        f"source('{roles.source('git')}', '{VERIFIER}')",
        f"open_source('{roles.source('git')}')",
        f"drop_source('{roles.source('git')}')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT harvestd_keeper.{call}")

    assert await all_roles(server) == before


@pytest.mark.parametrize(
    "attempt",
    [
        "SET ROLE {keeper}",
        "CREATE ROLE mine",
        "ALTER ROLE app CREATEROLE",
        "GRANT {keeper} TO app",
        "GRANT {daemon} TO app WITH ADMIN OPTION",
        "SELECT harvestd_keeper.set_password('postgres', '{verifier}')",
        "SELECT harvestd_keeper.refuse_unless('postgres', '')",
        "CREATE FUNCTION harvestd_keeper.mine() RETURNS void LANGUAGE sql AS ''",
        "ALTER FUNCTION harvestd_keeper.seat(text, text) RESET search_path",
        "DROP SCHEMA harvestd_keeper CASCADE",
        "ALTER SCHEMA harvestd_keeper OWNER TO app",
    ],
)
async def test_the_daemons_role_may_not(connection: Connection, roles: Roles, attempt: str) -> None:
    said = attempt.format(keeper=roles.keeper, daemon=roles.daemon, verifier=VERIFIER)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(said)


async def test_functions_of_the_callers_own_do_not_run_as_the_keeper(
    server: Cluster, connection: Connection, roles: Roles
) -> None:
    await connection.execute("CREATE TABLE pg_temp.ran (as_role text); GRANT ALL ON ran TO PUBLIC")
    body = "BEGIN INSERT INTO pg_temp.ran VALUES (current_user); RETURN true; END"
    for schema in ("public", "pg_temp"):
        for signature in (
            "pg_has_role(name, name, text)",
            "pg_has_role(name, text, text)",
            "to_regrole(text)",
            "starts_with(text, text)",
            "has_database_privilege(name, name, text)",
        ):
            await connection.execute(
                f"CREATE FUNCTION {schema}.{signature} RETURNS boolean LANGUAGE plpgsql AS '{body}'"
            )
    await connection.execute("SET search_path = public, pg_temp, pg_catalog")
    await ensure_seat(connection, roles, 1, VERIFIER)
    await ensure_source_role(connection, roles, "git", VERIFIER)

    assert await connection.fetch("SELECT * FROM pg_temp.ran") == []


async def test_nobody_but_the_daemon_reaches_the_keeper(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await ensure_source_role(connection, roles, "git", VERIFIER)
    seat = await seated(server, connection, migrated_database, roles)
    source = await login(server, migrated_database, roles.source("git"), "word")
    calls = {
        "seat": f"'{roles.seat(7)}', '{VERIFIER}'",
        "source": f"'{roles.source('git')}', '{VERIFIER}'",
        "reader": "'app', true",
    }
    try:
        for name in FUNCTIONS:
            arguments = calls.get(name, f"'{roles.source('git')}'")
            for one in (seat, source):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="for schema"):
                    await one.execute(f"SELECT harvestd_keeper.{name}({arguments})")
    finally:
        await seat.close()
        await source.close()


async def test_a_clone_brings_a_keeper_that_is_not_its_own(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    await connection.close()
    name = await create_database(server, template=database_of(migrated_database))
    url = server.url(name)
    try:
        async with closing(await asyncpg.connect(url)) as clone:
            assert not await has_keeper(clone)
            # Whose names are in them is no difference.
            assert await find_replaced_functions(clone) == []
            with pytest.raises(DatabaseError, match="--print-roles"):
                await ensure_roles(clone)
        await make_keeper(server, url)
        async with closing(await asyncpg.connect(url)) as clone:
            own = await ensure_roles(clone)
            assert await has_keeper(clone)
            assert await find_replaced_functions(clone) == []
            await ensure_seat(clone, own, 1, VERIFIER)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await clone.execute("SELECT harvestd_keeper.seat($1, $2)", roles.seat(1), VERIFIER)
    finally:
        await drop_database(server, name)


async def test_the_keeper_can_be_taken_back_as_its_script_says(
    server: Cluster, migrated_database: str, connection: Connection, roles: Roles
) -> None:
    base = database_of(migrated_database)
    async with closing(await asyncpg.connect(server.admin_url(base))) as admin:
        await admin.execute(f"REVOKE CONNECT ON DATABASE {base} FROM PUBLIC")
        await ensure_seat(connection, roles, 1, VERIFIER)
        await ensure_source_role(connection, roles, "git", VERIFIER)
        said = (await print_roles(connection)).text.partition("take back the keeper")[2]
        recipe = [line for line in said.splitlines() if line.startswith("--   ")]
        await admin.execute("\n".join(line.removeprefix("-- ") for line in recipe))

    assert len(recipe) == 3
    assert not await has_keeper(connection)
    with pytest.raises(DatabaseError, match="--print-roles"):
        await ensure_seat(connection, roles, 1, VERIFIER)
