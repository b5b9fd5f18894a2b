"""The keeper: what a daemon without CREATEROLE can do with roles, and that it is no more."""

from __future__ import annotations

import re
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
    drop_roles,
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


async def test_the_script_of_another_database_is_refused(
    server: Cluster, migrated_database: str, empty_database: str, connection: Connection
) -> None:
    script = (await print_roles(connection)).text
    async with closing(
        await asyncpg.connect(server.admin_url(database_of(empty_database)))
    ) as admin:
        with pytest.raises(asyncpg.RaiseError, match="for another database than"):
            await admin.execute(script)


async def test_a_schema_of_the_keepers_name_that_is_somebody_elses_is_left_alone(
    server: Cluster, migrated_database: str, connection: Connection
) -> None:
    await connection.execute("CREATE SCHEMA harvestd_keeper; CREATE TABLE harvestd_keeper.t ()")

    with pytest.raises(asyncpg.RaiseError, match="the schema harvestd_keeper belongs to app"):
        await make_keeper(server, migrated_database)


async def test_the_script_runs_none_of_the_functions_that_others_put_before_it(
    server: Cluster, migrated_database: str, connection: Connection
) -> None:
    """A superuser runs it in a database whose owner may make functions and set its settings."""
    await connection.execute(
        "CREATE TABLE ran (as_role text);"
        "CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN 'SELECT 1'; END $$;"
        "CREATE FUNCTION public.to_regrole(text) RETURNS regrole LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN NULL; END $$;"
        f"ALTER DATABASE {database_of(migrated_database)} SET search_path = public, pg_catalog;"
        f"ALTER DATABASE {database_of(migrated_database)} SET standard_conforming_strings = off"
    )
    await make_keeper(server, migrated_database)

    assert await has_keeper(connection)
    assert await connection.fetch("SELECT * FROM ran") == []


async def test_a_role_that_made_its_logins_itself_can_lose_createrole(
    server: Cluster, migrated_database: str, connection: Connection
) -> None:
    roles = await ensure_roles(connection)
    await ensure_seat(connection, roles, 1, VERIFIER)
    await ensure_source_role(connection, roles, "git", VERIFIER)
    async with without_createrole(server):
        with pytest.raises(DatabaseError, match="--print-roles"):
            await ensure_seat(connection, roles, 1, VERIFIER)
        await make_keeper(server, migrated_database)
        await ensure_seat(connection, roles, 1, VERIFIER)
        await ensure_source_role(connection, roles, "git", VERIFIER)
    # And where it is given back, the keeper's roles are still the keeper's.
    await ensure_seat(connection, roles, 2, VERIFIER)
    await ensure_seat(connection, roles, 2, VERIFIER)


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


async def test_a_role_with_createrole_that_owns_the_database_can_run_it_too(
    server: Cluster, empty_database: str
) -> None:
    base, admin = database_of(empty_database), server.admin_url()
    await query(admin, f"CREATE ROLE dba LOGIN CREATEROLE PASSWORD '{server.password}'")
    await query(admin, f"ALTER DATABASE {base} OWNER TO dba")
    try:
        async with (
            without_createrole(server),
            closing(await asyncpg.connect(empty_database)) as own,
        ):
            script = (await print_roles(own)).text
            for _ in range(2):
                async with closing(await asyncpg.connect(server.url(base, "dba"))) as dba:
                    await dba.execute(script)
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await dba.execute(
                            "CREATE FUNCTION harvestd_keeper.f() RETURNS void LANGUAGE sql AS ''"
                        )
                await own.execute(
                    "SELECT harvestd_keeper.seat($1, $2)", f"{prefix_in(script)}seat_001", VERIFIER
                )
            assert await has_keeper(own)
    finally:
        await query(admin, f"ALTER DATABASE {base} OWNER TO {DAEMON_ROLE}")
        async with closing(await asyncpg.connect(server.admin_url(base))) as superuser:
            await superuser.execute(f"REASSIGN OWNED BY dba TO {DAEMON_ROLE}; DROP OWNED BY dba")
            await drop_roles(superuser, prefix_in(script)[9:17])
            await superuser.execute("DROP ROLE dba")


def prefix_in(script: str) -> str:
    """What the names in a script begin with."""
    found = re.search(r"harvestd_[0-9a-f]{8}_", script)
    assert found is not None
    return found[0]


async def test_names_that_need_quotes_or_look_like_placeholders_are_only_names(
    server: Cluster, empty_database: str
) -> None:
    login_, base = 'O\'Neil "{prefix}" $$; --', 'it\'s "{hex}" %s $$'
    admin = server.admin_url()
    quoted = login_.replace('"', '""')
    quoted_base = base.replace('"', '""')
    await query(admin, f"CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{server.password}'")
    await query(admin, f'CREATE DATABASE "{quoted_base}" OWNER "{quoted}"')
    try:
        options: dict[str, Any] = {"host": str(server.sockets), "password": server.password}
        async with closing(
            await asyncpg.connect(user=login_, database=base, **options)
        ) as connection:
            script = await print_roles(connection)
            async with closing(
                await asyncpg.connect(user="postgres", database=base, **options)
            ) as superuser:
                await superuser.execute(script.text)
                assert await has_keeper(connection)
                prefix = await superuser.fetchval(
                    "SELECT replace(nspowner::regrole::text, 'keeper', '') FROM pg_namespace"
                    " WHERE nspname = 'harvestd_keeper'"
                )
                names = [f"{prefix}{name}" for name in ("daemon", "exec", "reader", "keeper")]
                await superuser.execute(
                    f"DROP SCHEMA harvestd_keeper CASCADE; DROP OWNED BY {', '.join(names)};"
                    f"DROP ROLE {', '.join(names)}"
                )
    finally:
        await query(admin, f'DROP DATABASE "{quoted_base}"')
        await query(admin, f'DROP ROLE "{quoted}"')


async def test_a_name_that_would_end_a_comment_of_the_script_is_refused(
    server: Cluster, empty_database: str
) -> None:
    await query(server.admin_url(), 'CREATE DATABASE "a\nSELECT 1 b" OWNER app')
    try:
        async with closing(
            await asyncpg.connect(
                host=str(server.sockets),
                user=DAEMON_ROLE,
                password=server.password,
                database="a\nSELECT 1 b",
            )
        ) as connection:
            with pytest.raises(DatabaseError, match="control characters"):
                await print_roles(connection)
    finally:
        await query(server.admin_url(), 'DROP DATABASE "a\nSELECT 1 b"')
