"""Each part of the wall that is broken is named by the doctor, with the statement that mends it."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator

import asyncpg
import pytest

from harvestd.database.functions import RUN_SCRIPT, made_functions
from harvestd.database.hardening import missing_hardening
from harvestd.database.pool import closing
from harvestd.database.roles import ensure_roles, missing_rights
from harvestd.database.statements import sql
from harvestd.loading.breaches import Breach, find_breaches
from tests.builders import a_transaction
from tests.cli.shell import harvestd
from tests.clusters import Cluster, database_of
from tests.keepers import make_keeper, without_createrole
from tests.loading.walls import GOOD, ONE_TABLE, Wall, wall_at

TENANT = "tenant_id = harvestd_api.tenant()"
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
OTHER_TENANT = (
    "CREATE OR REPLACE FUNCTION harvestd_api.tenant() RETURNS text"
    f" LANGUAGE sql STABLE {DEFINER} AS $$ SELECT 'acme' $$"
)
OTHER_RESULT = (
    "DROP FUNCTION harvestd_api.set_bookmark(text, jsonb);"
    "CREATE FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) RETURNS jsonb"
    f" LANGUAGE sql {DEFINER} AS $$ SELECT new_value $$;"
    "REVOKE EXECUTE ON FUNCTION harvestd_api.set_bookmark(text, jsonb) FROM PUBLIC;"
    "ALTER FUNCTION harvestd_api.set_bookmark(text, jsonb) OWNER TO app"
)
OTHER_TRIGGER = (
    "CREATE OR REPLACE TRIGGER harvestd_note_delete AFTER DELETE ON tenant_data_source_config"
    " REFERENCING OLD TABLE AS changed FOR EACH STATEMENT WHEN (false)"
    " EXECUTE FUNCTION harvestd.note_config_change()"
)
ONE_MORE = (
    "CREATE FUNCTION harvestd_api.tenant(integer) RETURNS text"
    f" LANGUAGE sql {DEFINER} AS $$ SELECT 'acme' $$;"
    "REVOKE EXECUTE ON FUNCTION harvestd_api.tenant(integer) FROM PUBLIC;"
    "ALTER FUNCTION harvestd_api.tenant(integer) OWNER TO app"
)
ANY_PASSWORD = (
    "CREATE OR REPLACE FUNCTION harvestd_keeper.seat(role text, verifier text) RETURNS void"
    f" LANGUAGE plpgsql {DEFINER} AS"
    " $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', role, verifier); END $$"
)
OF_THE_KEEPERS = (
    "SET ROLE {keeper}; CREATE FUNCTION harvestd_keeper.run(said text) RETURNS void"
    f" LANGUAGE plpgsql {DEFINER} AS $$ BEGIN EXECUTE said; END $$;"
    " REVOKE ALL ON FUNCTION harvestd_keeper.run(text) FROM PUBLIC; RESET ROLE;"
    " GRANT EXECUTE ON FUNCTION harvestd_keeper.run(text) TO {daemon}"
)


@pytest.fixture
async def wall(database_url: str) -> AsyncIterator[Wall]:
    async with wall_at(database_url) as made:
        assert await made.apply(GOOD)
        yield made


async def run(url: str, statements: str) -> None:
    """As psql runs what was pasted into it."""
    async with closing(await asyncpg.connect(url)) as connection:
        await connection.execute(statements)


async def broken(wall: Wall, server: Cluster, statement: str) -> list[Breach]:
    """What is found after a superuser ran ``statement``; braces hold names of roles."""
    names = {name: getattr(wall.roles, name) for name in ("daemon", "exec", "reader")}
    names |= {"source": wall.roles.source("shop"), "base": database_of(wall.url)}
    said = statement.format(**names, seat=wall.roles.seat(1))
    await run(server.admin_url(database_of(wall.url)), said)
    return await find_breaches(wall.daemon, wall.roles)


async def test_a_wall_that_is_whole_has_no_breach_and_looking_leaves_nothing(wall: Wall) -> None:
    assert await find_breaches(wall.daemon, wall.roles) == []
    left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'harvestd_probe%'"
    assert await wall.daemon.fetch(left) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE shop.customer DISABLE ROW LEVEL SECURITY", "row-level security: lacks enab"),
        ("ALTER TABLE shop.customer NO FORCE ROW LEVEL SECURITY", "row-level security: lacks for"),
        ("DROP POLICY harvestd_tenant ON shop.customer", "policy harvestd_tenant: missing"),
        (f"ALTER POLICY harvestd_tenant ON shop.customer USING ({TENANT})", "has permissive"),
        ("ALTER POLICY harvestd_reader ON shop.customer TO {exec}", "policy harvestd_reader"),
        ("DROP TRIGGER harvestd_guard ON shop.customer", "trigger harvestd_guard: missing"),
        ("ALTER TABLE shop.customer DISABLE TRIGGER harvestd_guard", "(enabled: D)"),
        ("ALTER TABLE shop.customer ENABLE REPLICA TRIGGER harvestd_guard", "(enabled: R)"),
        ("GRANT DELETE ON shop.customer TO {exec}", "rights: has {exec} DELETE"),
        ("GRANT UPDATE ON shop.customer TO {exec}", "rights: has {exec} UPDATE"),
        ("GRANT TRUNCATE ON shop.customer TO {exec}", "rights: has {exec} TRUNCATE"),
        ("GRANT UPDATE (id) ON shop.customer TO {exec}", "rights: has {exec} UPDATE (id)"),
        ("REVOKE SELECT ON shop.customer FROM {reader}", "rights: lacks {reader} SELECT"),
        ("REVOKE SELECT ON shop.buyer FROM {exec}", "shop.buyer: rights: lacks {exec} SELECT"),
        ("GRANT CREATE ON SCHEMA shop TO {exec}", "the schema shop: rights: has {exec} CREATE"),
        ("GRANT ALL ON SEQUENCE shop.purchase_row_no_seq TO {exec}", "shop.purchase_row_no_seq"),
        ("GRANT SELECT ON shop.customer TO PUBLIC", "PUBLIC has rights on the table shop.cust"),
        ("ALTER TABLE shop.customer ALTER tenant_id DROP DEFAULT", "lacks tenant_id default"),
        ("ALTER TABLE shop.visit ALTER tenant_id DROP NOT NULL", "shop.visit: tenant_id: lacks"),
        ("ALTER TABLE shop.customer DROP COLUMN written_at", "framework columns: lacks written_at"),
        ("ALTER VIEW shop.buyer RESET (security_invoker)", "reads with its owner's rights"),
        ("CREATE POLICY mine ON shop.customer USING (true)", "the policy mine on shop.customer"),
        ("ALTER SCHEMA shop OWNER TO postgres", "the schema shop belongs to postgres"),
        ("ALTER ROLE {exec} LOGIN", "{exec} can log in"),
        ("ALTER ROLE {exec} BYPASSRLS", "{exec} has BYPASSRLS"),
        ("ALTER ROLE {source} SUPERUSER", "{source} has SUPERUSER"),
        ("ALTER ROLE {source} CREATEROLE", "{source} has CREATEROLE"),
        ("CREATE ROLE {seat} LOGIN; GRANT {daemon} TO {seat}", "{seat} is a member of {daemon}"),
        ("CREATE ROLE {seat} NOLOGIN", "the seat {seat} cannot log in"),
        (
            "CREATE ROLE {seat} LOGIN VALID UNTIL '2001-02-03 UTC'; GRANT {exec} TO {seat}",
            "the password of the login {seat} was valid until 2001-02-03",
        ),
        (
            "CREATE ROLE {seat} LOGIN CONNECTION LIMIT 0; GRANT {exec} TO {seat}",
            "the login {seat} may have 0 connection(s)",
        ),
        ("ALTER ROLE {source} CONNECTION LIMIT 0", "the login {source} may have 0 connection(s)"),
        ("CREATE ROLE {seat} LOGIN", "the seat {seat} is no member of {exec}"),
        ("GRANT {daemon} TO pg_monitor", "pg_monitor is a member of {daemon}"),
        ("GRANT EXECUTE ON FUNCTION harvestd_api.guard() TO PUBLIC", "everybody may call"),
        ("ALTER FUNCTION harvestd_api.tenant() RESET search_path", "looks names up"),
        ("GRANT UPDATE ON harvestd.binding TO {exec}", "{exec} may UPDATE the table harvestd.bind"),
        ("GRANT USAGE ON SCHEMA harvestd TO {exec}", "{exec} may USAGE the schema harvestd"),
        ("GRANT SELECT ON tenant_data_source_config TO PUBLIC", "PUBLIC may SELECT the table"),
        ("GRANT SELECT ON tenant_data_source_config TO {exec}", "{exec} may SELECT the table"),
        ("GRANT EXECUTE ON FUNCTION harvestd.me() TO pg_monitor", "pg_monitor may EXECUTE"),
        ("ALTER FUNCTION harvestd_api.tenant() SECURITY INVOKER", "of whoever calls it"),
        ("GRANT {source} TO pg_monitor", "pg_monitor is a member of {source}"),
        ("ALTER FUNCTION harvestd_api.tenant() OWNER TO {exec}", "tenant() belongs to {exec}"),
        (OTHER_TENANT, "harvestd_api.tenant() is not the function that the migration 0015_"),
        ("ALTER FUNCTION harvestd_api.tenant() IMMUTABLE", "harvestd_api.tenant() is not the"),
        ("ALTER FUNCTION harvestd.keep_holder() SET work_mem = '1GB'", "keep_holder() is not the"),
        (OTHER_RESULT, "harvestd_api.set_bookmark(text, jsonb) is not the function"),
        ("DROP FUNCTION harvestd_api.checkpoint(timestamptz)", "time zone) is missing"),
        (ONE_MORE, "harvestd_api.tenant(integer) is none of harvestd's functions"),
        ("DROP TRIGGER harvestd_keep_holder ON data_source_run", "on public.data_source_run is mi"),
        ("DROP TRIGGER harvestd_hand_set_date ON data_source_run", "harvestd_hand_set_date on"),
        ("DROP TRIGGER harvestd_note_update ON tenant", "note_update on public.tenant is missing"),
        (OTHER_TRIGGER, "on public.tenant_data_source_config is not the one that harvestd made"),
        ("ALTER TABLE data_source_run DISABLE TRIGGER harvestd_keep_holder", "(enabled: D)"),
        ("ALTER TABLE tenant ENABLE REPLICA TRIGGER harvestd_note_insert", "not fire (enabled: R)"),
        ("ALTER DATABASE {base} SET session_replication_role = replica", "of everybody is replica"),
        ("ALTER DATABASE {base} SET row_security = off", "row_security of everybody is off"),
        ("ALTER ROLE {source} SET session_replication_role = replica", "of the role {source} is"),
        (
            "ALTER ROLE app IN DATABASE {base} SET row_security = off",
            "row_security of the role app",
        ),
        (
            "GRANT SET ON PARAMETER session_replication_role TO {exec}",
            "{exec} may SET the parameter",
        ),
        (
            "GRANT SET ON PARAMETER session_replication_role TO PUBLIC",
            "PUBLIC may SET the parameter",
        ),
    ],
)
async def test_what_is_broken_is_said_and_mended_by_the_statement_that_is_said(
    wall: Wall, server: Cluster, statement: str, said: str
) -> None:
    found = await broken(wall, server, statement)
    names = {name: getattr(wall.roles, name) for name in ("daemon", "exec", "reader")}
    said = said.format(**names, source=wall.roles.source("shop"), seat=wall.roles.seat(1))

    assert said in found[0].what, found
    # All at once, indented as the doctor prints them.
    mends = "\n".join(textwrap.indent(one.mend, " " * 8) for one in found)
    assert all(";" in one.mend for one in found), found
    await run(server.admin_url(database_of(wall.url)), mends)
    assert await find_breaches(wall.daemon, wall.roles) == []


async def test_what_a_superuser_has_set_for_a_login_of_its_own_is_no_breach(
    wall: Wall, server: Cluster
) -> None:
    said = f"ALTER ROLE postgres IN DATABASE {database_of(wall.url)} SET "
    tool = f"{said} session_replication_role = replica; {said} row_security = off"
    assert await broken(wall, server, tool) == []


async def test_every_function_of_harvestd_is_known_by_its_migration(wall: Wall) -> None:
    rows = await wall.daemon.fetch(sql("describe_functions"), "harvestd")
    assert {row["name"] for row in rows} == set(made_functions("app"))


async def test_what_a_function_was_dropped_with_is_made_again_by_migrate(
    wall: Wall, server: Cluster
) -> None:
    [found] = await broken(wall, server, "DROP FUNCTION harvestd_api.checkpoint(timestamptz)")
    await run(wall.url, found.mend)  # as the daemon's own role

    assert await missing_rights(wall.daemon) == ["EXECUTE on harvestd_api.checkpoint"]
    await ensure_roles(wall.daemon)
    assert await missing_rights(wall.daemon) == []


async def test_functions_are_not_judged_where_a_newer_harvestd_migrated(
    wall: Wall, server: Cluster
) -> None:
    newer = (
        "INSERT INTO harvestd.schema_migration (number, name, checksum, breaking, version)"
        " VALUES (9999, '9999_later', 'x', false, '9')"
    )
    assert await broken(wall, server, f"{newer}; {OTHER_TENANT}; {ONE_MORE}") == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER ROLE {keeper} LOGIN", "{keeper} can log in"),
        ("ALTER ROLE {keeper} BYPASSRLS", "{keeper} has BYPASSRLS"),
        ("GRANT {keeper} TO app", "app is a member of {keeper}"),
        ("GRANT {keeper} TO {daemon}", "{daemon} is a member of {keeper}"),
        ("GRANT pg_read_all_data TO {keeper}", "{keeper} is a member of pg_read_all_data"),
        ("GRANT USAGE ON SCHEMA harvestd_keeper TO {exec}", "{exec} may USAGE the schema"),
        ("GRANT {function} TO {reader}", "{reader} may EXECUTE the function harvestd_keeper.seat"),
        ("GRANT {function} TO PUBLIC", "everybody may call harvestd_keeper.seat"),
        ("ALTER FUNCTION harvestd_keeper.seat RESET search_path", "looks names up"),
        ("ALTER FUNCTION harvestd_keeper.seat OWNER TO postgres", "seat(text,text) belongs to pos"),
        (ANY_PASSWORD, "seat(text, text) is not the function that harvestd migrate --print-roles"),
        (OF_THE_KEEPERS, "harvestd_keeper.run(text) is none of harvestd's functions"),
        ("DROP FUNCTION harvestd_keeper.reader", "harvestd_keeper.reader(text, boolean) is missi"),
        ("ALTER ROLE {keeper} NOCREATEROLE", "the keeper {keeper} may make no logins"),
        ("ALTER SCHEMA harvestd_keeper OWNER TO app", "the schema harvestd_keeper belongs to app"),
    ],
)
async def test_what_is_wrong_with_a_keeper_is_said_too(
    wall: Wall, server: Cluster, statement: str, said: str
) -> None:
    await make_keeper(server, wall.url)
    names = {name: getattr(wall.roles, name) for name in ("keeper", "daemon", "exec", "reader")}
    names["function"] = "EXECUTE ON FUNCTION harvestd_keeper.seat(text, text)"
    admin = server.admin_url(database_of(wall.url))
    async with without_createrole(server):
        before = await find_breaches(wall.daemon, wall.roles)
        await run(admin, statement.format(**names))
        found = await find_breaches(wall.daemon, wall.roles)
        for one in found:
            if one.mend == RUN_SCRIPT:
                await make_keeper(server, wall.url)
            else:
                await run(admin, one.mend)
        after = await find_breaches(wall.daemon, wall.roles)

    assert before == after == []
    assert said.format(**names) in found[0].what, found


async def test_a_login_whose_name_needs_quotes_can_be_asked_for(
    wall: Wall, server: Cluster
) -> None:
    admin = server.admin_url(database_of(wall.url))
    await run(admin, f"CREATE ROLE \"My.App\" SUPERUSER LOGIN PASSWORD '{server.password}'")
    try:
        url = server.url(database_of(wall.url), "My.App")
        async with closing(await asyncpg.connect(url)) as connection:
            assert await missing_hardening(connection, wall.roles)
            assert await find_breaches(connection, wall.roles) == []
    finally:
        await run(admin, 'DROP ROLE "My.App"')


async def test_rights_on_a_column_that_is_gone_are_nobodys(wall: Wall) -> None:
    await run(wall.url, "GRANT SELECT (mood) ON shop.customer TO PUBLIC")
    await run(wall.url, "ALTER TABLE shop.customer DROP COLUMN mood")

    assert await find_breaches(wall.daemon, wall.roles) == []


async def test_a_data_source_whose_table_is_locked_is_named_and_the_others_are_looked_at(
    wall: Wall, server: Cluster
) -> None:
    await wall.apply(ONE_TABLE.replace("shop", "farm"), "farm")
    await run(wall.url, "ALTER TABLE shop.customer DISABLE TRIGGER harvestd_guard")
    admin = server.admin_url(database_of(wall.url))
    await wall.daemon.execute("SET lock_timeout = '100ms'")
    async with a_transaction(admin, "LOCK TABLE farm.a IN ACCESS EXCLUSIVE MODE"):
        found = await find_breaches(wall.daemon, wall.roles)

    assert [one.what.split(":")[0] for one in found] == ["the wall of farm", "shop.customer"]
    assert len(found[0].mend) > 0


async def test_the_doctor_fails_with_the_breach_and_without_it_is_well(
    wall: Wall, server: Cluster
) -> None:
    await broken(wall, server, "ALTER TABLE shop.customer DISABLE TRIGGER harvestd_guard")
    bad = await harvestd("doctor", "--json", url=wall.url)
    lines = [one for one in bad.json["findings"] if one["check"] == "wall"]
    await run(wall.url, lines[0]["next_step"])  # as the daemon's own role
    good = await harvestd("doctor", "--json", url=wall.url)

    assert [one["level"] for one in lines] == ["fail"]
    assert "shop.customer: trigger harvestd_guard" in lines[0]["what"]
    assert (bad.code, good.code) == (1, 0)
