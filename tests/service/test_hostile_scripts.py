"""What a script's own SQL tried on a seat, inside a whole replica."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app

PROBE = {"probe": {"KEY": "value"}, "other": {"KEY": "value"}}
NOTE = """
CREATE TABLE IF NOT EXISTS {source}.note (
    tenant_id text NOT NULL, id int NOT NULL, body text, PRIMARY KEY (tenant_id, id));
"""
KEEPING = """
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        await db.upsert("note", [{"id": 1, "body": f"of {tenant_id}"}], key=["id"])
"""
NOTES = {
    f"{source}/{name}": text
    for source in ("probe", "other")
    for name, text in (("keep.py", KEEPING), ("schema.sql", NOTE.format(source=source)))
}
# {hex}: what the roles of this database are called.
REFUSED = [
    # another tenant
    "INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9)",
    "UPDATE probe.note SET tenant_id = 'globex'",
    "UPDATE probe.note SET id = 9",
    "DELETE FROM probe.note",
    "TRUNCATE probe.note",
    "SELECT * FROM public.tenant_data_source_config",
    "SELECT query_to_xml('SELECT * FROM public.tenant', true, true, '')",
    "UPDATE public.data_source_run SET fence = 0",
    "UPDATE harvestd.binding SET tenant_id = 'globex'",
    "SELECT harvestd.hold()",
    "SELECT * FROM harvestd.bookmark",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "DO $$ BEGIN LOCK TABLE probe.note IN ACCESS EXCLUSIVE MODE; END $$",
    "CREATE STATISTICS probe.st ON id, body FROM probe.note",
    # another data source
    "INSERT INTO other.note (id) VALUES (9)",
    "UPDATE other.note SET body = 'x'",
    "WITH written AS (UPDATE other.note SET body = 'x' RETURNING 1) SELECT * FROM written",
    "MERGE INTO other.note AS n USING (SELECT 1 AS i) AS s ON n.id = s.i"
    " WHEN MATCHED THEN UPDATE SET body = 'x'",
    "MERGE INTO other.note AS n USING (SELECT 1 AS i) AS s ON false"
    " WHEN NOT MATCHED THEN INSERT (id) VALUES (9)",
    "EXPLAIN ANALYZE INSERT INTO other.note (id) VALUES (9)",
    # more rights
    "SET ROLE {hex}_daemon",
    "SET ROLE {hex}_reader",
    "SET SESSION AUTHORIZATION {hex}_src_probe",
    "GRANT {hex}_daemon TO CURRENT_USER",
    "ALTER ROLE {hex}_src_probe LOGIN",
    "SET session_replication_role = replica",
    "ALTER TABLE probe.note DISABLE TRIGGER ALL",
    "ALTER TABLE probe.note NO FORCE ROW LEVEL SECURITY",
    "CREATE TABLE probe.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION probe.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    # the machine
    "COPY probe.note FROM PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
]
TRYING = f"""
    catch_up = False
    dependencies = ["keep"]
    async def run(env, db, tenant_id, start_date, end_date):
        if tenant_id != "acme":
            return
        hex = (await db.fetchval("SELECT session_user::text"))[:17]
        done = []
        for attempt in {REFUSED!r}:
            try:
                await db.fetch(attempt.format(hex=hex))
                done.append(attempt)
            except Exception as error:
                known = getattr(error, "sqlstate", None) == "42501" or error.code == "write_refused"
                assert known, (attempt, error)
        assert not done, done
"""
# What the next tenant's run would find on the seat, or with the next connection of its login.
SOILING = {
    "no time to clean up": [
        "DO $$ BEGIN FOR i IN 1..300 LOOP"
        " EXECUTE format('CREATE TEMP TABLE t_%s (a int PRIMARY KEY)', i); END LOOP; END $$",
        "SET statement_timeout = '1ms'",
    ],
    "more than one transaction can drop": [
        "DO $$ BEGIN FOR i IN 1..800 LOOP"
        f" EXECUTE format('CREATE TEMP TABLE t{part}_%s ()', i); END LOOP; END $$"
        for part in range(30)
    ],
    "a login that only reads": [
        "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ],
    "another password": [
        "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ],
}
SOILED = """
    catch_up = False
    async def run(env, db, tenant_id, start_date, end_date):
        if tenant_id == "acme":
            for sql in SOILING:
                await db.fetch(sql)
        else:
            await db.upsert("note", [{"id": 1, "body": "x"}], key=["id"])
"""


async def words(url: str, script: str) -> dict[str, tuple[str, str | None]]:
    """Status and error of a script of the data source probe, by tenant."""
    rows = await query(
        url,
        "SELECT tenant_id, status::text AS word, error FROM data_source_run"
        " WHERE data_source = 'probe' AND script = $1",
        script,
    )
    return {row["tenant_id"]: (row["word"], row["error"]) for row in rows}


async def test_sql_of_a_script_reaches_no_other_tenant_source_or_right(
    database_url: str, tmp_path: Path
) -> None:
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, PROBE)
    async with running_app(
        database_url, tmp_path, NOTES | {"probe/trying.py": TRYING}, seats_max=1
    ) as app:
        await cycle(app)

    assert await words(database_url, "trying") == {
        tenant_id: ("COMPLETED", None) for tenant_id in ("acme", "globex")
    }
    for source in ("probe", "other"):
        rows = await query(database_url, f"SELECT tenant_id, id, body FROM {source}.note")
        assert sorted(tuple(row.values()) for row in rows) == [
            ("acme", 1, "of acme"),
            ("globex", 1, "of globex"),
        ]


@pytest.mark.parametrize("case", SOILING)
async def test_a_seat_that_was_made_unusable_serves_the_next_tenant_all_the_same(
    case: str, database_url: str, tmp_path: Path
) -> None:
    script = SOILED.replace("SOILING", repr(SOILING[case]))
    schema = {"probe/schema.sql": NOTE.format(source="probe")}
    await a_tenant(database_url, "acme", PROBE)
    async with running_app(
        database_url, tmp_path, {"probe/soiled.py": script} | schema, seats_max=1
    ) as app:
        await cycle(app)
        await a_tenant(database_url, "globex", PROBE)
        await cycle(app)

    assert (await words(database_url, "soiled"))["globex"] == ("COMPLETED", None)
