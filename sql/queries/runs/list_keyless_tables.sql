-- list_keyless_tables: tables that hold rows of data sources, and no key to find one again by.
--
-- $1 sources  text[]
-- -> name (with its schema)
SELECT format('%I.%I', namespace.nspname, relation.relname) AS name
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE namespace.nspname = ANY ($1::text[])
  AND relation.relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS index
                  WHERE index.indrelid = relation.oid
                    AND index.indisunique)
ORDER BY name;
