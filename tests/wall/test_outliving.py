"""What goes on after its run: a backend, a task, a connection, a db.  The run ends all the same,
the backend is ended, and nothing is written afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harvestd.database.pool import Database
from harvestd.errors import LeaseLost
from tests.builders import a_tenant, query
from tests.daemons import WITHIN, cycle, running_app, runs
from tests.loading.dbs import a_shop
from tests.processes import wait_until

MAIN = "acme/probe/main"
SEATS = "SELECT pid, query FROM pg_stat_activity WHERE usename LIKE '%\\_seat\\_%'"
STUBBORN = """DO $$ BEGIN
    INSERT INTO event (script, from_at, to_at) VALUES ('never', now(), now());
    LOOP
        BEGIN FOR n IN 1..2000000000 LOOP END LOOP;
        EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP;
END $$"""
WRITE = "INSERT INTO event (script, from_at, to_at) VALUES ('late', now(), now())"

# They let go once the file is there, so that nothing of them outlives the test.
WORKS_ON = f"""
import asyncio
from datetime import timedelta
from pathlib import Path
timeout = timedelta(seconds=1)
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    while not Path(env["FOLDER"], "gate").exists():
        try:
            await asyncio.sleep(0.01)
            async with db.transaction() as connection:
                await connection.execute("SET statement_timeout = 0")
                await connection.execute("SET idle_in_transaction_session_timeout = 0")
                await connection.execute({STUBBORN!r})
        except BaseException:
            pass
"""
LEAVES_A_TASK = """
import asyncio, json
from pathlib import Path
catch_up = False
async def run(env, db, tenant_id, start_date, end_date):
    written = asyncio.Event()
    async def go_on():
        gate, said = Path(env["FOLDER"], "gate"), Path(env["FOLDER"], "said")
        while not gate.exists():
            try:
                await asyncio.sleep(0.01)
                await db.fetch("INSERT INTO event VALUES (DEFAULT, 'x', now(), now())")
                written.set()
            except BaseException as error:
                said.write_text(str(error))
    asyncio.create_task(go_on())
    await written.wait()
"""
KEEPS = """
import json
from pathlib import Path
catch_up = False
KEPT = []
async def run(env, db, tenant_id, start_date, end_date):
    said = []
    for kept in KEPT:
        try:
            await kept.fetch("INSERT INTO event VALUES (DEFAULT, 'by another', now(), now())")
        except Exception as error:
            said.append(str(error))
    async with db.transaction() as connection:
        await connection.execute("INSERT INTO event VALUES (DEFAULT, 'own', now(), now())")
    try:
        await connection.execute("INSERT INTO event VALUES (DEFAULT, 'after', now(), now())")
    except Exception as error:
        said.append(str(error))
    KEPT.extend([db, connection])
    Path(env["FOLDER"], tenant_id).write_text(json.dumps(said))
"""


async def tenants(url: str, folder: Path, *names: str) -> None:
    for name in names:
        await a_tenant(url, name, {"probe": {"FOLDER": str(folder)}})


async def test_a_script_that_swallows_its_cancellation_in_a_block_without_limits_is_ended(
    database_url: str, tmp_path: Path
) -> None:
    await tenants(database_url, tmp_path, "acme")
    plugins = {"probe/main.py": WORKS_ON}
    async with running_app(database_url, tmp_path, plugins, seats_max=1) as app:
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        ended = (await runs(database_url))[MAIN]
        working = [row for row in await query(database_url, SEATS) if "LOOP" in row["query"]]
        await tenants(database_url, tmp_path, "globex")
        (tmp_path / "gate").touch()
        await cycle(app)  # the one seat serves another
        others = (await runs(database_url))["globex/probe/main"]

    assert (ended["word"], ended["reason"]) == ("FAILED", "script_timed_out")
    assert working == []
    assert others["word"] == "COMPLETED"
    assert await query(database_url, "SELECT FROM probe.event") == []


async def test_a_task_that_run_left_behind_writes_nothing_once_the_run_is_recorded(
    database_url: str, tmp_path: Path
) -> None:
    await tenants(database_url, tmp_path, "acme")
    plugins = {"probe/main.py": LEAVES_A_TASK}
    async with running_app(database_url, tmp_path, plugins, seats_max=1) as app:
        async with asyncio.timeout(WITHIN):
            await app.feeder.idle()
        ended = (await runs(database_url))[MAIN]
        at_its_end = await query(database_url, "SELECT FROM probe.event")
        (tmp_path / "said").unlink(missing_ok=True)

        async def tried_once_more() -> bool:
            return (tmp_path / "said").exists()

        await wait_until(tried_once_more, "the task has tried to write")
        refused = (tmp_path / "said").read_text()
        later = await query(database_url, "SELECT FROM probe.event")
        (tmp_path / "gate").touch()

    assert ended["word"] == "FAILED"
    assert "run() left 1 task behind" in ended["error"]
    assert refused.startswith("db was used after its run() had ended")
    assert len(later) == len(at_its_end) > 0


async def test_neither_a_db_nor_a_connection_that_was_kept_works_for_another_run(
    database_url: str, tmp_path: Path
) -> None:
    await tenants(database_url, tmp_path, "acme")
    async with running_app(database_url, tmp_path, {"probe/main.py": KEEPS}, seats_max=1) as app:
        await app.feeder.idle()
        await tenants(database_url, tmp_path, "globex")
        await cycle(app, forced=False)

    said = {name: json.loads((tmp_path / name).read_text()) for name in ("acme", "globex")}
    after = "db was used after its transaction had ended"
    assert [text.partition(";")[0] for text in said["acme"]][-1] == after
    assert [text.partition(";")[0] for text in said["globex"]][-3:] == [
        "db was used after its run() had ended",
        after,
        after,
    ]
    rows = await query(database_url, "SELECT DISTINCT script FROM probe.event")
    assert [row["script"] for row in rows] == ["own"]


ZOMBIES: Mapping[str, str] = {
    "insert": WRITE,
    "a writing CTE": f"WITH w AS ({WRITE} RETURNING 1) SELECT * FROM w",
    "a block": f"DO $$ BEGIN {WRITE}; END $$",
    "a block that commits": f"DO $$ BEGIN FOR n IN 1..3 LOOP {WRITE}; COMMIT; END LOOP; END $$",
    "a block that goes on": "DO $$ BEGIN FOR n IN 1..3 LOOP BEGIN"
    f" {WRITE}; EXCEPTION WHEN OTHERS THEN NULL; END; COMMIT; END LOOP;"
    " RAISE EXCEPTION 'lease lost' USING ERRCODE = 'HD001'; END $$",
    "explain analyze": f"EXPLAIN ANALYZE {WRITE}",
    "merge": "MERGE INTO event USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN"
    " INSERT (script, from_at, to_at) VALUES ('late', now(), now())",
    "update": "UPDATE keyed SET word = 'late'",
    "upsert": "INSERT INTO keyed (id, word) VALUES (1, 'late') ON CONFLICT (tenant_id, id)"
    " DO UPDATE SET word = excluded.word",
    "nothing to write": "INSERT INTO keyed (id) SELECT 9 WHERE false",
    "checkpoint": "SELECT harvestd_api.checkpoint(now())",
    "bookmark": "SELECT harvestd_api.set_bookmark('a', '1')",
    "no bookmark": "SELECT harvestd_api.set_bookmark('a', NULL)",
}
TABLES = """
CREATE TABLE shop.event (tenant_id text, script text, from_at timestamptz, to_at timestamptz);
CREATE TABLE shop.keyed (tenant_id text, id int, word text, PRIMARY KEY (tenant_id, id));
"""


@pytest.mark.parametrize("case", ZOMBIES)
async def test_nothing_is_written_by_sql_of_a_run_that_another_has_taken_over(
    case: str, database: Database, database_url: str
) -> None:
    everything = (
        "SELECT (SELECT jsonb_agg(e) FROM shop.event AS e), (SELECT jsonb_agg(k) FROM shop.keyed"
        " AS k), (SELECT jsonb_agg(b) FROM harvestd.bookmark AS b),"
        " (SELECT covered::text FROM data_source_run)"
    )
    async with a_shop(database, database_url, TABLES, seats_max=1) as shop:
        binding = await shop.claims_run_of("acme")
        db = shop.db(binding)
        await db.fetch(WRITE.replace("late", "in time"))
        await db.upsert("keyed", [{"id": 1, "word": "in time"}], ["id"])
        await db.set_bookmark("a", "in time")
        async with db.transaction() as connection:
            await connection.execute(f"PREPARE ready AS {WRITE}")
        await shop.rows("UPDATE data_source_run SET fence = fence + 1")
        before = await shop.rows(everything)

        with pytest.raises(LeaseLost):
            await db.fetch(ZOMBIES[case])
        with pytest.raises(LeaseLost):
            await db.fetch("EXECUTE ready")
        with pytest.raises(LeaseLost):
            async with db.transaction() as connection:
                await connection.execute("SAVEPOINT s")
                try:
                    await connection.execute(ZOMBIES[case].replace("COMMIT;", ""))
                finally:
                    await connection.execute("ROLLBACK TO s")

        assert await shop.rows(everything) == before
