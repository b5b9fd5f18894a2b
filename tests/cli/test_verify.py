"""`harvestd verify` as an operator meets it: OK, or what is wrong and what to do."""

from __future__ import annotations

from uuid import uuid4

from tests.builders import a_run, a_tenant, query
from tests.cli.shell import harvestd


async def test_what_holds_together_is_said_with_what_is_not_shown_by_it(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url)
    hole = "covered = tstzmultirange(tstzrange(origin + interval '1 hour', now()))"
    await query(database_url, f"UPDATE data_source_run SET {hole}, last_fetched_data_date = now()")
    done = await harvestd("verify", url=database_url)
    lines = done.out.splitlines()

    assert done.code == 0, done.out
    assert lines[0].startswith("looked at 1 run, 0 attempts and 0 bindings, as of ")
    assert lines[1].startswith("known to be missing, no fault: 1 hole in 1 run, 60 min of source")
    assert lines[2:] == ["OK"]
    assert done.err.count("not shown by this: ") == 3


async def test_a_fault_says_where_what_why_and_what_next_and_ends_with_1(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url)
    held = "UPDATE data_source_run SET status = 'RUNNING', replica_id = $1"
    await query(database_url, held, replica := uuid4())
    text = await harvestd("verify", "acme", url=database_url)
    json = await harvestd("verify", "--json", url=database_url)
    (fault,) = json.json["faults"]

    assert (text.code, json.code) == (1, 1)
    assert text.out.splitlines()[0] == (
        f"acme probe/main held_by_nobody: it is RUNNING for replica {replica}, which is not known"
    )
    assert text.out.splitlines()[-1] == "1 fault found"
    assert json.json["counts"] == {"held_by_nobody": 1}
    assert fault["next_step"].startswith("harvestd run, ")


async def test_without_its_database_it_ends_with_3_and_without_that_tenant_with_1(
    database_url: str,
) -> None:
    away = await harvestd("verify", url="postgresql://app:x@127.0.0.1:1/app")
    misspelt = await harvestd("verify", "acne", url=database_url)

    assert (away.code, misspelt.code) == (3, 1)
    assert "there is no tenant 'acne'" in misspelt.err
