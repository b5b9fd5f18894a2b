"""`harvestd sql`: it reads what the reader may, and says what fits a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from harvestd.cli.query import next_step_after
from harvestd.database.pool import Database
from harvestd.database.reading import read_as_reader
from harvestd.database.roles import Roles
from harvestd.errors import DatabaseError
from harvestd.service.status import Status
from tests.builders import a_tenant, query
from tests.cli.shell import harvestd
from tests.daemons import SIMPLE, cycle, running_app
from tests.processes import wait_until

TABLES = ("git.commit", "git.repository", "probe.event")


async def test_sql_reads_what_the_reader_may_and_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"probe": {"KEY": "canary-value-in-config"}})
    async with running_app(database_url, tmp_path, {"probe/main.py": SIMPLE}) as app:
        await cycle(app)
    counting = "SELECT tenant_id, count(*) AS n, min(from_at) AS first FROM probe.event GROUP BY 1"
    rows = await harvestd("sql", counting, "--json", url=database_url)
    table = await harvestd("sql", counting, url=database_url)
    many = await harvestd("sql", "SELECT generate_series(1, 1500)", "--json", url=database_url)
    config = await harvestd("sql", "TABLE public.tenant_data_source_config", url=database_url)
    write = await harvestd("sql", "DELETE FROM probe.event", url=database_url)
    mistake = await harvestd("sql", "SELECT * FROM probe.evnt", url=database_url)
    members = await query(
        database_url,
        "SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u "
        "ON u.oid = m.member WHERE u.rolname = 'app' AND r.rolname LIKE '%_reader' "
        "AND NOT m.admin_option",
    )

    assert rows.json["columns"] == ["tenant_id", "n", "first"]
    assert rows.json["rows"][0][:2] == ["acme", 90]
    assert "acme" in table.out
    assert (len(many.json["rows"]), many.json["cut"]) == (1000, True)
    assert config.code == write.code == mistake.code == 1
    assert "permission denied" in config.err
    assert "canary-value-in-config" not in config.out + config.err
    assert "only what data sources have loaded can be read here: " in config.err
    assert "sql only looks" in write.err
    assert 'relation "probe.evnt" does not exist' in mistake.err
    assert "did you mean probe.event?" in mistake.err
    assert members == []


@pytest.mark.parametrize(
    ("code", "words", "step"),
    [
        ("42601", 'syntax error at or near "FORM"', "correct the SQL there"),
        ("42P01", 'relation "git.comit" does not exist', "did you mean git.commit?"),
        ("42P01", 'relation "repositry" does not exist', "did you mean git.repository?"),
        ("42P01", 'relation "qqq" does not exist', "Tables that can be read: git.commit"),
        ("42703", 'column "x" does not exist', "list the columns"),
        ("42501", "permission denied for table tenant", "only what data sources have loaded"),
        ("25006", "cannot execute DELETE in a read-only transaction", "sql only looks"),
        ("57014", "canceling statement", "narrow it"),
        ("22012", "division by zero", "correct the query"),
    ],
)
def test_the_next_step_fits_the_mistake(code: str, words: str, step: str) -> None:
    error = DatabaseError(words)
    error.sqlstate = code

    assert step in next_step_after(error, TABLES)


def test_the_hint_of_the_server_is_the_next_step_where_it_has_one() -> None:
    error = DatabaseError("column does not exist", next_step="Perhaps you meant commit.sha.")
    error.sqlstate = "42703"

    assert next_step_after(error, TABLES) == "Perhaps you meant commit.sha."


async def test_a_query_that_takes_too_long_is_ended_on_the_server_too(
    database: Database, database_url: str
) -> None:
    overview = await Status(database).overview()
    assert overview is not None
    connection = await database.connect("sql", statement_seconds=0.2)
    try:
        with pytest.raises(DatabaseError, match="took longer than") as caught:
            await read_as_reader(
                connection, Roles(overview.hex), "SELECT pg_sleep(600)", rows_max=1
            )
    finally:
        await connection.close(timeout=2)

    async def is_gone() -> bool:
        left = (
            "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active'"
        )
        return len(await query(database_url, left)) <= 1  # this very question has the words too

    await wait_until(is_gone, "the server ended it")
    assert "narrow it" in next_step_after(caught.value, TABLES)


async def test_an_empty_query_is_a_mistake_in_usage() -> None:
    done = await harvestd("sql", "  ")

    assert done.code == 2
    assert "the query is empty" in done.err
