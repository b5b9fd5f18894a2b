-- find_tenant_table: what the foreign key of tenant_data_source_config.tenant_id points at.
-- -> schema_name, table_name, or no row when there is no such key
SELECT namespace.nspname::text AS schema_name,
       target.relname::text AS table_name
FROM pg_catalog.pg_constraint AS link
JOIN pg_catalog.pg_class AS relation ON relation.oid = link.conrelid
JOIN pg_catalog.pg_attribute AS attribute
  ON attribute.attrelid = relation.oid AND attribute.attnum = ANY (link.conkey)
JOIN pg_catalog.pg_class AS target ON target.oid = link.confrelid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = target.relnamespace
WHERE link.contype = 'f'
  AND relation.relnamespace = to_regnamespace('public')
  AND relation.relname = 'tenant_data_source_config'
  AND attribute.attname = 'tenant_id'
ORDER BY link.conname
LIMIT 1;
