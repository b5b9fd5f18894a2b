"""Hostile SQL that a script sends through a whole replica, while another tenant's run is under way.

Asserted by content: what the attacker was told, the other tenant's rows with the transactions
that wrote them, and everything in the catalog that makes the wall.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from harvestd.database.pool import closing
from harvestd.database.roles import Roles
from tests.builders import a_tenant, made_roles, query
from tests.clusters import Cluster, database_of
from tests.daemons import WITHIN, cycle, running_app, runs
from tests.processes import wait_until
from tests.wall.attacks import POINTLESS, REFUSED, SCHEMA, SECRET, TELLING

# One script for both: which of the two is played is what the tenant is called.
SCRIPT = f"""
import asyncio, json
from pathlib import Path
catch_up = False

async def run(env, db, tenant_id, start_date, end_date):
    await (hold if tenant_id == "globex" else attack)(Path(env["FOLDER"]), db)

async def there(path):
    while not path.exists():
        await asyncio.sleep(0.01)

async def hold(folder, db):
    await db.upsert("note", [{{"id": n, "body": "{SECRET}"}} for n in (1, 2, 77)], key=["id"])
    await db.set_bookmark("mark", "{SECRET}")
    async with db.transaction() as connection:
        await connection.execute("INSERT INTO remark (note_id) VALUES (1)")
        seat = await connection.fetchval("SELECT session_user || '/' || pg_backend_pid()")
        await connection.fetch("SELECT '{SECRET}' AS of_the_other")
        (folder / "held").write_text(seat)
        await there(folder / "over")
    await db.upsert("note", [{{"id": 3, "body": "goes on"}}], key=["id"])

async def attack(folder, db):
    await there(folder / "attacks")
    await db.upsert("note", [{{"id": 1, "body": "of acme"}}], key=["id"])
    told = []
    for statements in json.loads((folder / "attacks").read_text()):
        answers, error = [], None
        try:
            if len(statements) == 1:  # some are refused inside a transaction, whoever asks
                answers.append(str(await db.fetch(statements[0])))
            else:
                async with db.transaction() as connection:
                    for statement in statements:
                        answers.append(str(await connection.fetch(statement)))
        except Exception as raised:
            error = [getattr(raised, "sqlstate", None) or raised.code,
                     repr(raised) + repr(raised.__context__)]
        told.append([answers, error])
    (folder / "told").write_text(json.dumps(told))
    (folder / "over").touch()
"""
KEEPING = f"""
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    body = "{SECRET}" if tenant_id == "globex" else "of acme"
    await db.upsert("note", [{{"id": 1, "body": body}}], key=["id"])
"""
CATALOG = """
    SELECT 'policy' AS kind, format('%s %s %s %s', polrelid::regclass, polname,
                                    polroles::regrole[], pg_get_expr(polqual, polrelid)) AS says
    FROM pg_policy
    UNION ALL
    SELECT 'relation', format('%s %s %s %s %s %s', oid::regclass, relowner::regrole, relacl,
                              relrowsecurity, relforcerowsecurity, obj_description(oid))
    FROM pg_class WHERE relpersistence <> 't' AND relkind IN ('r', 'p', 'v', 'S', 'i')
    UNION ALL
    SELECT 'column', format('%s %s', attrelid::regclass, attacl)
    FROM pg_attribute WHERE attacl IS NOT NULL
    UNION ALL
    SELECT 'trigger', format('%s %s %s', tgrelid::regclass, tgname, tgenabled)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE relpersistence <> 't'
    UNION ALL
    SELECT 'function', format('%s %s %s %s', pg_proc.oid, proname, proowner, proacl) || prosrc
    FROM pg_proc WHERE NOT pg_is_other_temp_schema(pronamespace)
    UNION ALL
    SELECT 'schema', format('%s %s %s', nspname, nspowner::regrole, nspacl)
    FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT 'role', to_jsonb(pg_roles)::text FROM pg_roles
    UNION ALL
    SELECT 'member', format('%s %s', roleid::regrole, member::regrole) FROM pg_auth_members
    UNION ALL
    SELECT 'setting', to_jsonb(pg_db_role_setting)::text FROM pg_db_role_setting
    UNION ALL
    SELECT 'extension', extname FROM pg_extension
    UNION ALL
    SELECT 'publication', pubname FROM pg_publication
    UNION ALL
    SELECT 'default', to_jsonb(pg_default_acl)::text FROM pg_default_acl
    UNION ALL
    SELECT 'database', datacl::text FROM pg_database WHERE datname = current_database()
    ORDER BY 1, 2
"""
THEIRS = "SELECT xmin::text, tenant_id, id, body FROM {0}.note WHERE tenant_id = 'globex'"
LEAST_READINGS = 10
REFUSALS = {
    *("42501", "HD001", "HD003", "write_refused"),  # no right, no fence, not the own schema
    *("0A000", "22023", "42704", "58P01"),  # does not exist here, for nobody or not for a seat
    *("23503", "22012", "22P02", "22007", "22008", "P0001"),  # "whether a row is there", "an error"
}


def in_order(attacks: Mapping[str, Iterable[str]], names: Mapping[str, Any]) -> list[list[str]]:
    """Each attack as its statements."""
    return [cut(said, names) for group in attacks.values() for said in group]


def cut(attack: str, names: Mapping[str, Any]) -> list[str]:
    for name, value in names.items():
        attack = attack.replace(f"{{{name}}}", str(value))
    return cut_outside_bodies(attack)


def cut_outside_bodies(attack: str) -> list[str]:
    """At each semicolon that is not between dollars."""
    pieces = attack.split("$$")
    marked = [piece if n % 2 else piece.replace(";", "\0") for n, piece in enumerate(pieces)]
    return [one for one in (said.strip() for said in "$$".join(marked).split("\0")) if one]


async def see_catalog(url: str) -> list[tuple[str, str]]:
    async with closing(await asyncpg.connect(url)) as admin:
        return [tuple(row) for row in await admin.fetch(CATALOG)]


async def find_names(url: str, roles: Roles, held: str) -> dict[str, Any]:
    other_seat, _, victim = held.partition("/")
    (one,) = await query(
        url,
        "SELECT pid, current_database() AS database, session_user AS keeper FROM pg_stat_activity"
        " WHERE usename = session_user AND pid <> pg_backend_pid() LIMIT 1",
    )
    seats = {roles.seat(1), roles.seat(2)} - {other_seat}
    return {
        "prefix": roles.prefix,
        "other_seat": other_seat,
        "seat": min(seats),
        "victim": victim,
        "daemon": one["pid"],
        "database": one["database"],
        "keeper": one["keeper"],
    }


async def test_whatever_a_script_sends_nothing_of_another_tenant_is_told_or_changed(
    server: Cluster, database_url: str, tmp_path: Path
) -> None:
    roles = await made_roles(database_url)
    for tenant_id in ("acme", "globex"):
        config = {source: {"FOLDER": str(tmp_path)} for source in ("probe", "other")}
        await a_tenant(database_url, tenant_id, config)
    plugins = {"probe/main.py": SCRIPT, "other/keep.py": KEEPING} | {
        f"{source}/schema.sql": SCHEMA.format(source=source) for source in ("probe", "other")
    }
    held, admin = tmp_path / "held", server.admin_url(database_of(database_url))
    async with running_app(database_url, tmp_path, plugins, seats_max=2) as app:

        async def all_there() -> bool:
            kept = await query(database_url, "SELECT FROM other.note")
            return len(kept) == 2 and held.exists()

        await wait_until(all_there, "the other tenant's run is in its transaction")
        before = await see_catalog(admin)
        theirs = [await query(database_url, THEIRS.format("probe"))]
        names = await find_names(database_url, roles, held.read_text())
        refused, pointless = in_order(REFUSED, names), in_order(POINTLESS, names)
        telling = in_order({"": TELLING}, names)
        (tmp_path / "written").write_text(json.dumps([*refused, *pointless, *telling]))
        (tmp_path / "written").rename(tmp_path / "attacks")
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        ended = await runs(database_url)
        told = json.loads((tmp_path / "told").read_text())
        after = await see_catalog(admin)
        await cycle(app)  # the seats serve on

    assert {key: run["word"] for key, run in ended.items()} == {
        f"{tenant}/{script}": "COMPLETED"
        for tenant in ("acme", "globex")
        for script in ("other/keep", "probe/main")
    }
    assert SECRET not in json.dumps(told)
    assert "globex" not in str([answers[-1:] for answers, _ in told[len(refused) :]])
    outcomes = list(zip(refused, told, strict=False))
    assert [one for one in outcomes if not one[1][1] or one[1][1][0] not in REFUSALS] == []
    read = [answers for answers, _ in told[len(refused) :] if "of acme" in str(answers)]
    assert len(read) > LEAST_READINGS  # or nothing was tried
    assert after == before
    now = await query(database_url, THEIRS.format("probe") + " AND id <> 3")
    assert [now] == theirs
