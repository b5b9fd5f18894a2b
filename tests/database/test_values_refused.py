"""What no reader could use is refused where it is written, and mended where it was before."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from harvestd.database.migrations import load_migrations, migrate
from harvestd.database.pool import closing
from tests.builders import a_run, a_tenant, query


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("UPDATE data_source_run SET origin = '-infinity'", "origin_within_years_1_to_9999"),
        ("UPDATE data_source_run SET origin = '4000-01-01 BC'", "origin_within_years_1_to_9999"),
        ("UPDATE data_source_run SET covered = '{(,2024-01-01)}'", "covered_within_years_1_to_"),
        ("UPDATE data_source_run SET covered = '{[2024-01-01,)}'", "covered_within_years_1_to_"),
        ("UPDATE tenant SET runs_max = 0", "runs_max_at_least_one"),
        ("UPDATE data_source_run SET fence = 9223372036854775807", "fence_with_room_to_grow"),
    ],
)
async def test_another_program_is_told_what_it_may_not_write(
    change: str, constraint: str, database_url: str
) -> None:
    await a_tenant(database_url, "acme")
    await a_run(database_url)

    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await query(database_url, change)


async def test_a_database_that_has_such_values_is_mended_by_the_migration(
    empty_database: str,
) -> None:
    async with closing(await asyncpg.connect(empty_database)) as connection:
        older = tuple(known for known in load_migrations() if known.number < 5)
        await migrate(connection, explicit=True, known=older)
        await connection.execute(
            "INSERT INTO tenant (id, runs_max) VALUES ('acme', -1), ('globex', 2);"
            "INSERT INTO data_source_run (tenant_id, data_source, script, origin, covered) VALUES"
            " ('acme', 'probe', 'long ago', '4000-01-01 BC', '{(,2024-01-01 00:00+00)}'),"
            " ('acme', 'probe', 'never', NULL, '{}'),"
            " ('acme', 'probe', 'good', '2024-01-01 00:00+00', '{}')"
        )

        await migrate(connection, explicit=True)

        limits = await connection.fetch("SELECT runs_max FROM tenant ORDER BY id")
        runs = await connection.fetch(
            "SELECT script, origin, lower(covered) AS since, last_fetched_data_date AS watermark"
            " FROM data_source_run ORDER BY script"
        )

    first, mended = datetime(1, 1, 3, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    assert [row["runs_max"] for row in limits] == [None, 2]
    assert [tuple(row) for row in runs] == [
        ("good", mended, None, None),
        ("long ago", first, first, mended),
        ("never", None, None, None),
    ]
