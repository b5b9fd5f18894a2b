-- list_columns_of_the_application: the columns of the three tables, as far as they exist.
-- -> table_name, name, type (without its precision), required (not null and without a default)
SELECT relation.relname::text AS table_name,
       attribute.attname::text AS name,
       pg_catalog.format_type(attribute.atttypid, NULL) AS type,
       attribute.attnotnull AND NOT attribute.atthasdef AND attribute.attidentity = '' AS required
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
WHERE relation.relnamespace = to_regnamespace('public')
  AND relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
ORDER BY relation.relname, attribute.attnum;
