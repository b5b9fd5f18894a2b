"""sql/schema.sql is what all migrations together make."""

from __future__ import annotations

import asyncpg

from harvestd.database.migrations import migrate
from harvestd.database.statements import sql_root
from tests.clusters import DEFAULT_VERSION, create_daemon_role, create_database, running_cluster
from tests.write_schema import dump_schema


async def test_the_schema_file_equals_the_result_of_all_migrations() -> None:
    with running_cluster(DEFAULT_VERSION) as cluster:  # the dump's text depends on the version
        await create_daemon_role(cluster)
        url = cluster.url(await create_database(cluster))
        connection = await asyncpg.connect(url)
        await migrate(connection, explicit=True)
        await connection.close()

        made = dump_schema(cluster, url)

    written = (sql_root() / "schema.sql").read_text(encoding="utf-8")
    assert made == written, "run `make schema`"
