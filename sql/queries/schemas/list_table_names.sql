-- list_table_names: the tables of a schema, for who asked for one that is not there.
--
-- $1 schema_name  text
-- -> name
SELECT relation.relname::text AS name
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE namespace.nspname = $1::text
  AND relation.relkind = 'r'
ORDER BY name;
