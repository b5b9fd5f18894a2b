-- list_tables_to_read: the tables and views of the data sources, for a mistyped name in `sql`.
--
-- $1 reader  text   the reader role
-- -> name (schema and table)
SELECT schema.nspname || '.' || relation.relname AS name
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p', 'v', 'm')
  AND schema.nspname NOT LIKE 'pg\_%'
  AND schema.nspname NOT IN ('information_schema', 'harvestd', 'harvestd_api')
  AND pg_catalog.has_schema_privilege($1::text, schema.oid, 'USAGE')
  AND pg_catalog.has_table_privilege($1::text, relation.oid, 'SELECT')
ORDER BY name
LIMIT 1000;
