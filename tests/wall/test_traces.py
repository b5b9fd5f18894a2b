"""What a run leaves on its seat's connection never reaches the next: of another tenant, or its own.

There is one seat.  Each run first tells what it finds on it, then leaves the case behind.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app

# What can be asked of one's own session; nothing of it may differ from that of a fresh one.
SESSION = """
    SELECT 'setting' AS kind, format('%s = %s', name, setting) AS says
    FROM pg_settings WHERE source = 'session' AND name <> 'search_path'
    UNION ALL SELECT 'search path', current_setting('search_path')
    UNION ALL SELECT 'own setting', current_setting('app.tenant_id', true)
    WHERE current_setting('app.tenant_id', true) <> ''
    UNION ALL SELECT 'role', current_user::text WHERE current_user <> session_user
    UNION ALL SELECT 'temporary', relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
    UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()
    UNION ALL SELECT 'type', typname FROM pg_type WHERE typnamespace = pg_my_temp_schema()
    UNION ALL SELECT 'prepared', name FROM pg_prepared_statements
    WHERE statement NOT LIKE '%pg_prepared_statements%' AND from_sql
    UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
    UNION ALL SELECT 'channel', channel FROM pg_listening_channels() AS channel
    UNION ALL SELECT 'lock', objid::text FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'transaction', 'written in' WHERE pg_current_xact_id_if_assigned() IS NOT NULL
    UNION ALL SELECT 'snapshot', current_setting('transaction_isolation')
    UNION ALL SELECT 'login', setting FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setrole = session_user::regrole
    UNION ALL SELECT 'large', oid::text FROM pg_largeobject_metadata
    UNION ALL SELECT 'default', defaclobjtype::text FROM pg_default_acl
    ORDER BY 1, 2
"""
LEFT: dict[str, list[str]] = {
    "settings": [
        f"SET {setting}"
        for setting in (
            *("statement_timeout = '1h'", "lock_timeout = '1h'", "work_mem = '1MB'"),
            *("idle_in_transaction_session_timeout = '1h'", "row_security = off"),
            *("search_path = pg_temp", "DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Tokyo'"),
            *("IntervalStyle = sql_standard", "bytea_output = escape", "extra_float_digits = -15"),
            *("standard_conforming_strings = off", "client_encoding = 'LATIN1'"),
            *("default_transaction_isolation = serializable", "synchronous_commit = off"),
            *("plan_cache_mode = force_generic_plan", "app.tenant_id = 'acme'"),
            "default_transaction_read_only = on",
        )
    ],
    "set_config": [
        "SELECT set_config('app.tenant_id', 'acme', false)",
        "SELECT set_config('harvestd.tenant_id', 'acme', false)",
    ],
    "limits too short to clean up": [
        "SET statement_timeout = '1ms'",
    ],
    "a role": ["SET ROLE NONE", "DO $$ BEGIN EXECUTE 'SET ROLE ' || session_user; END $$"],
    "temporary things in the way": [
        "CREATE TEMP TABLE note (id int, body text)",
        "INSERT INTO pg_temp.note VALUES (1, 'of another')",
        "CREATE TEMP VIEW words AS SELECT * FROM probe.note",
        "CREATE TEMP SEQUENCE numbers",
        "CREATE FUNCTION pg_temp.tenant() RETURNS text LANGUAGE sql AS $$SELECT 'acme'$$",
        "CREATE TYPE pg_temp.mood AS ENUM ('calm')",
        "CREATE TEMP TABLE logged (id int)",
        "CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RETURN NULL; END$$",
        "CREATE TRIGGER x BEFORE INSERT ON pg_temp.note FOR EACH ROW EXECUTE FUNCTION pg_temp.f()",
    ],
    "prepared statements and cursors": [
        "PREPARE mine AS SELECT * FROM probe.note",
        "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM probe.note",
        "DECLARE scrolled SCROLL CURSOR WITH HOLD FOR SELECT 1",
    ],
    "channels and locks": [
        "LISTEN mine",
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_advisory_lock_shared(7, 8)",
    ],
    "settings of the login": [
        "ALTER ROLE CURRENT_USER SET work_mem = '1MB'",
        "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ],
    "what the login owns": [
        "SELECT lo_from_bytea(0, 'a secret row')",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    ],
    "an open transaction": ["BEGIN", "INSERT INTO note (id, body) VALUES (7, 'of acme')"],
    "an aborted transaction": [
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "INSERT INTO note (id, body) VALUES (7, 'of acme')",
        "SELECT 1 / 0",
    ],
    "a transaction that was ended by hand": [
        "BEGIN",
        "INSERT INTO note (id, body) VALUES (1, 'of acme') ON CONFLICT DO NOTHING",
        "COMMIT AND CHAIN",
        "SAVEPOINT s",
    ],
}
# By db.fetch: each by itself.  By transaction(): in one, and what db says of it at the end.
SCRIPT = f"""
import json
from pathlib import Path
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    found = [list(row.values()) for row in await db.fetch({SESSION!r})]
    folder = Path(env["FOLDER"])
    with (folder / "found").open("a") as file:
        file.write(json.dumps([tenant_id, found]) + "\\n")
    how, statements = json.loads((folder / "left").read_text())
    try:
        if how == "fetch":
            for statement in statements:
                try:
                    await db.fetch(statement)
                except Exception:
                    pass
        else:
            async with db.transaction() as connection:
                for statement in statements:
                    await connection.execute(statement)
    except Exception:
        pass
"""
NOTE = "CREATE TABLE IF NOT EXISTS probe.note (tenant_id text, id int, body text);"


@pytest.mark.parametrize("how", ["fetch", "transaction"])
async def test_the_next_run_finds_a_session_like_a_fresh_one(
    how: str, database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, {"probe": {"FOLDER": str(tmp_path)}})
    (tmp_path / "left").write_text(json.dumps([how, []]))
    plugins = {"probe/main.py": SCRIPT, "probe/schema.sql": NOTE}
    async with running_app(database_url, tmp_path, plugins, seats_max=1) as app:
        await app.feeder.idle()
        fresh = list(told(tmp_path))
        for statements in LEFT.values():
            (tmp_path / "left").write_text(json.dumps([how, statements]))
            await cycle(app)
        (tmp_path / "left").write_text(json.dumps([how, []]))
        await cycle(app)
        found = told(tmp_path)[len(fresh) :]
        words = await query(database_url, "SELECT DISTINCT status::text FROM data_source_run")

    expected = dict(fresh)
    assert len(found) == 2 * (len(LEFT) + 1)
    assert [one for one in found if one[1] != expected[one[0]]] == []
    assert [tuple(word.values()) for word in words] == [("COMPLETED",)]


def told(folder: Path) -> list[tuple[str, list[list[str]]]]:
    """What each run found on its seat, in the order in which they ran."""
    lines = (folder / "found").read_text().splitlines()
    return [(tenant_id, found) for tenant_id, found in map(json.loads, lines)]
