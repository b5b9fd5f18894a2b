"""The script that makes a keeper: where it may be run, by whom, and what it makes of names."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import pytest

from harvestd.database.keeper import has_keeper, print_roles
from harvestd.database.logins import (
    ensure_seat,
    ensure_source_role,
    scram_verifier,
)
from harvestd.database.pool import closing
from harvestd.database.roles import ensure_roles
from harvestd.errors import DatabaseError
from tests.builders import query
from tests.clusters import (
    DAEMON_ROLE,
    Cluster,
    database_of,
    drop_roles,
)
from tests.database.roles.logins import Connection
from tests.keepers import make_keeper, without_createrole

VERIFIER = scram_verifier("word")


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
