"""`last_fetched_data_date` set by hand, the specification's manual intervention, is obeyed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

Connection: TypeAlias = "asyncpg.Connection[Any]"
SEEN = """
    SELECT covered::text, last_fetched_data_date AS watermark, origin::text, fence,
           failures, deaths, status::text, due_at <= now() AS due, not_before::text,
           replica_id IS NOT NULL AS held
    FROM public.data_source_run
"""


@pytest.fixture
async def connection(migrated_database: str) -> AsyncIterator[Connection]:
    """A database with one run that failed at last: origin 1 January, covered up to the 10th."""
    connection = await asyncpg.connect(migrated_database)
    await connection.execute(
        "SET timezone = 'UTC';"
        "INSERT INTO public.data_source_run (tenant_id, data_source, script, status, fence, origin,"
        " covered, last_fetched_data_date, failures, deaths, due_at, not_before)"
        " VALUES ('t', 'git', 'commit', 'FAILED', 3, '2026-01-01', '{[2026-01-01, 2026-01-10)}',"
        " '2026-01-10', 4, 3, 'infinity', 'infinity');"
        "INSERT INTO harvestd.bookmark (tenant_id, data_source, script, name, value)"
        " VALUES ('t', 'git', 'commit', 'heads', '1'), ('t', 'git', 'other', 'heads', '1')"
    )
    yield connection
    await connection.close()


async def set_by_hand(connection: Connection, date: str) -> asyncpg.Record:
    await connection.execute(f"UPDATE public.data_source_run SET last_fetched_data_date = {date}")
    seen: asyncpg.Record | None = await connection.fetchrow(SEEN)
    assert seen is not None
    return seen


async def untouched(connection: Connection) -> asyncpg.Record:
    seen: asyncpg.Record | None = await connection.fetchrow(SEEN)
    assert seen is not None
    return seen


async def test_an_earlier_date_cuts_the_ledger_there(connection: Connection) -> None:
    seen = await set_by_hand(connection, "'2026-01-05'")

    assert seen["covered"] == '{["2026-01-01 00:00:00+00","2026-01-05 00:00:00+00")}'
    assert seen["watermark"].isoformat() == "2026-01-05T00:00:00+00:00"
    assert seen["origin"] == "2026-01-01 00:00:00+00"


async def test_a_later_date_counts_as_covered_up_to_there(connection: Connection) -> None:
    seen = await set_by_hand(connection, "'2026-02-01'")

    assert seen["covered"] == '{["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")}'
    assert seen["watermark"].isoformat() == "2026-02-01T00:00:00+00:00"


async def test_gaps_before_a_later_date_stay_gaps(connection: Connection) -> None:
    await connection.execute(
        "UPDATE public.data_source_run"
        " SET covered = '{[2026-01-01, 2026-01-03), [2026-01-05, 2026-01-10)}'"
    )
    seen = await set_by_hand(connection, "'2026-01-20'")

    assert seen["covered"] == (
        '{["2026-01-01 00:00:00+00","2026-01-03 00:00:00+00"),'
        '["2026-01-05 00:00:00+00","2026-01-20 00:00:00+00")}'
    )


async def test_no_date_is_a_reset_and_forgets_the_bookmarks(connection: Connection) -> None:
    seen = await set_by_hand(connection, "NULL")

    assert (seen["covered"], seen["watermark"]) == ("{}", None)
    assert seen["origin"] == "2026-01-01 00:00:00+00"
    left = await connection.fetch("SELECT script FROM harvestd.bookmark")
    assert [row["script"] for row in left] == ["other"]


async def test_the_future_is_now(connection: Connection) -> None:
    seen = await set_by_hand(connection, "'2999-01-01'")

    age = await connection.fetchval(
        "SELECT clock_timestamp() - last_fetched_data_date FROM public.data_source_run"
    )
    assert 0 <= age.total_seconds() < 60
    assert seen["watermark"].microsecond % 1000 == 0
    assert await connection.fetchval(
        "SELECT upper(covered) = last_fetched_data_date FROM public.data_source_run"
    )


async def test_the_same_date_is_no_change(connection: Connection) -> None:
    before = await untouched(connection)

    assert await set_by_hand(connection, "'2026-01-10'") == before


async def test_a_date_before_the_origin_moves_it(connection: Connection) -> None:
    seen = await set_by_hand(connection, "'2025-12-01'")

    assert (seen["covered"], seen["origin"]) == ("{}", "2025-12-01 00:00:00+00")
    assert seen["watermark"].isoformat() == "2025-12-01T00:00:00+00:00"


@pytest.mark.parametrize("date", ["2026-01-01", "2025-12-01"])
async def test_at_or_before_the_origin_with_nothing_covered_the_date_stays(
    date: str, connection: Connection
) -> None:
    await connection.execute(
        "UPDATE public.data_source_run SET covered = '{}', last_fetched_data_date = NULL"
    )
    seen = await set_by_hand(connection, f"'{date}'")

    assert (seen["covered"], seen["origin"]) == ("{}", f"{date} 00:00:00+00")
    assert seen["watermark"].isoformat() == f"{date}T00:00:00+00:00"


async def test_after_the_origin_with_nothing_covered_it_is_covered_from_there(
    connection: Connection,
) -> None:
    await connection.execute(
        "UPDATE public.data_source_run SET covered = '{}', last_fetched_data_date = NULL"
    )
    seen = await set_by_hand(connection, "'2026-01-02'")

    assert seen["covered"] == '{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")}'


@pytest.mark.parametrize("date", ["'2026-01-05'", "'2026-02-01'", "NULL", "'2025-12-01'"])
async def test_a_hand_set_date_makes_the_run_due_at_once(date: str, connection: Connection) -> None:
    seen = await set_by_hand(connection, date)

    assert (seen["due"], seen["not_before"]) == (True, "-infinity")
    assert (seen["failures"], seen["deaths"]) == (0, 0)
    assert (seen["fence"], seen["status"]) == (3, "FAILED")


@pytest.mark.parametrize("date", ["'2026-01-05'", "'2026-02-01'", "NULL"])
async def test_on_a_held_row_it_raises_the_fence_and_the_holder_keeps_the_row(
    date: str, connection: Connection
) -> None:
    await connection.execute(
        "UPDATE public.data_source_run SET status = 'RUNNING', replica_id = gen_random_uuid()"
    )
    seen = await set_by_hand(connection, date)

    assert (seen["fence"], seen["status"], seen["held"]) == (4, "RUNNING", True)


async def test_a_date_that_comes_back_from_javascript_is_no_change(connection: Connection) -> None:
    await set_by_hand(connection, "'2026-01-05 10:11:12.345678'")
    before = await untouched(connection)

    seen = await set_by_hand(connection, "'2026-01-05T10:11:12.345Z'")

    assert seen == before
    assert seen["watermark"].microsecond == 345000


async def test_our_own_writes_change_ledger_and_date_together_and_are_let_through(
    connection: Connection,
) -> None:
    await connection.execute(
        "UPDATE public.data_source_run"
        " SET covered = covered + '{[2026-01-10, 2026-01-11)}', last_fetched_data_date ="
        " '2026-01-11'"
    )
    seen = await untouched(connection)

    assert (seen["failures"], seen["not_before"]) == (4, "infinity")


async def test_before_enrolment_the_date_waits_for_the_origin(connection: Connection) -> None:
    await connection.execute(
        "UPDATE public.data_source_run SET origin = NULL, covered = '{}',"
        " last_fetched_data_date = NULL"
    )
    seen = await set_by_hand(connection, "'2026-01-05'")

    assert (seen["covered"], seen["origin"]) == ("{}", None)
    assert seen["watermark"].isoformat() == "2026-01-05T00:00:00+00:00"


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "PENDING"])
async def test_another_programs_status_on_a_held_row_only_raises_the_fence(
    word: str, connection: Connection
) -> None:
    await connection.execute(
        "UPDATE public.data_source_run SET status = 'RUNNING', replica_id = gen_random_uuid()"
    )
    await connection.execute(f"UPDATE public.data_source_run SET status = '{word}'")
    seen = await untouched(connection)

    assert (seen["status"], seen["held"], seen["fence"]) == ("RUNNING", True, 4)


async def test_a_status_and_a_date_set_together_are_both_obeyed(connection: Connection) -> None:
    """The specification's own closing statement, on a row that harvestd holds."""
    await connection.execute(
        "UPDATE public.data_source_run SET status = 'RUNNING', replica_id = gen_random_uuid()"
    )
    await connection.execute(
        "UPDATE public.data_source_run SET status = 'COMPLETED', completed_at = now(),"
        " last_fetched_data_date = '2026-01-05'"
    )
    seen = await untouched(connection)

    assert (seen["status"], seen["held"], seen["fence"]) == ("RUNNING", True, 4)
    assert seen["covered"] == '{["2026-01-01 00:00:00+00","2026-01-05 00:00:00+00")}'
