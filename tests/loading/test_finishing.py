"""What finishing adds to tables that an older harvestd has finished, and who may set it."""

from __future__ import annotations

import hashlib

from harvestd.database.pool import Database
from harvestd.loading.schemas import apply_source_schema
from tests.builders import made_roles, query
from tests.clusters import Cluster, database_of
from tests.loading.dbs import a_shop

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS shop.item (tenant_id text, id int, PRIMARY KEY (tenant_id, id))"
)
DIGEST = hashlib.sha256(SCHEMA.encode()).hexdigest()


async def test_an_unchanged_file_is_finished_anew_after_an_upgrade_and_no_row_is_rewritten(
    database: Database, database_url: str, server: Cluster
) -> None:
    async with a_shop(database, database_url, SCHEMA) as shop:
        await (await shop.db_of("acme")).upsert("item", [{"id": 1}, {"id": 2}], key=["id"])
    as_before = "ALTER TABLE shop.item DROP COLUMN written_at, DROP COLUMN deleted_at"
    await query(server.admin_url(database_of(database_url)), as_before)
    await query(database_url, "UPDATE harvestd.source_schema SET schema_hash = $1", DIGEST)
    rows = "SELECT id, xmin::text, ctid::text FROM shop.item ORDER BY id"
    file = "SELECT pg_relation_filenode('shop.item') AS file"
    before = await query(database_url, rows), await query(database_url, file)
    roles = await made_roles(database_url)

    answers = [
        await apply_source_schema(database, roles, source="shop", schema_sql=SCHEMA)
        for _ in range(2)
    ]

    assert answers == [True, False]
    assert (await query(database_url, rows), await query(database_url, file)) == before
    live = "SELECT FROM shop.item WHERE deleted_at IS NULL AND written_at <= now()"
    assert len(await query(database_url, live)) == 2
    (reader,) = await query(
        database_url,
        "SELECT has_column_privilege($1, 'shop.item', 'written_at', 'SELECT') AND"
        " has_column_privilege($1, 'shop.item', 'deleted_at', 'SELECT') AS sees",
        roles.reader,
    )
    assert reader["sees"] is True


async def test_sql_of_a_plugin_marks_no_row_of_another_tenant(
    database: Database, database_url: str
) -> None:
    async with a_shop(database, database_url, SCHEMA) as shop:
        dbs = [await shop.db_of(tenant_id) for tenant_id in ("acme", "globex")]
        for db in dbs:
            await db.upsert("item", [{"id": 1}], key=["id"])

        async with dbs[0].transaction() as connection:
            tag = await connection.execute(
                "UPDATE item SET deleted_at = now(), written_at = '-infinity'"
            )

        assert tag == "UPDATE 1"
        marked = "SELECT tenant_id FROM shop.item WHERE deleted_at IS NOT NULL"
        assert await shop.rows(marked) == [("acme",)]
