-- read_unique_keys: the columns of each unique key of a table, in the key's order.
--
-- $1 schema_name  text
-- $2 table_name   text
-- -> columns; the primary key's first
SELECT array_agg(attribute.attname::text ORDER BY part.place) AS columns
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indrelid
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
CROSS JOIN LATERAL unnest(index.indkey::smallint[]) WITH ORDINALITY AS part (number, place)
JOIN pg_catalog.pg_attribute AS attribute
  ON attribute.attrelid = relation.oid AND attribute.attnum = part.number
WHERE namespace.nspname = $1::text
  AND relation.relname = $2::text
  AND index.indisunique
  AND index.indisvalid
  -- what ON CONFLICT cannot use: deferrable, partial and expression keys
  AND index.indimmediate
  AND index.indpred IS NULL
  AND index.indexprs IS NULL
  -- not the columns of INCLUDE
  AND part.place <= index.indnkeyatts
GROUP BY index.indexrelid, index.indisprimary
ORDER BY index.indisprimary DESC, index.indexrelid;
