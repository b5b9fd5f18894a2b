-- read_table_shape: the columns of a table and its keys, for building writes.
--
-- $1 schema_name  text
-- $2 table_name   text
-- -> name, type (as PostgreSQL spells it), is_array, generated, in_key
SELECT attribute.attname::text AS name,
       pg_catalog.format_type(attribute.atttypid, attribute.atttypmod) AS type,
       kind.typcategory = 'A' AS is_array,
       (attribute.attgenerated <> '' OR attribute.attidentity = 'a') AS generated,
       EXISTS (SELECT FROM pg_catalog.pg_index AS index
               WHERE index.indrelid = relation.oid
                 AND index.indisunique
                 AND attribute.attnum = ANY ((index.indkey::smallint[])[0:index.indnkeyatts - 1])
       ) AS in_key
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
JOIN pg_catalog.pg_type AS kind ON kind.oid = attribute.atttypid
WHERE namespace.nspname = $1::text
  AND relation.relname = $2::text
  AND relation.relkind = 'r'
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
ORDER BY attribute.attnum;
