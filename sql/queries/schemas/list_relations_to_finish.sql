-- list_relations_to_finish: the tables and views of a schema, for grants, policies and the guard.
--
-- $1 schema_name  text
-- -> name, is_view, keyed (has a unique key for ON CONFLICT), changeable (columns that an UPDATE
--    may set: in no unique key and not generated), serials (sequences that an INSERT draws from)
--
-- The sequence of an identity column needs no grant; that of a serial does.
SELECT relation.relname::text AS name,
       relation.relkind = 'v' AS is_view,
       EXISTS (SELECT FROM pg_catalog.pg_index AS index
               WHERE index.indrelid = relation.oid
                 AND index.indisunique
                 AND index.indpred IS NULL) AS keyed,
       ARRAY(SELECT attribute.attname::text
             FROM pg_catalog.pg_attribute AS attribute
             WHERE attribute.attrelid = relation.oid
               AND attribute.attnum > 0
               AND NOT attribute.attisdropped
               AND attribute.attname <> 'tenant_id'
               AND attribute.attgenerated = ''
               AND attribute.attidentity <> 'a'
               AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_index AS index
                   WHERE index.indrelid = relation.oid
                     AND index.indisunique
                     AND attribute.attnum
                         = ANY ((index.indkey::smallint[])[0:index.indnkeyatts - 1]))
             ORDER BY attribute.attnum) AS changeable,
       ARRAY(SELECT sequence.relname::text
             FROM pg_catalog.pg_depend AS dependency
             JOIN pg_catalog.pg_class AS sequence ON sequence.oid = dependency.objid
             WHERE dependency.classid = 'pg_catalog.pg_class'::regclass
               AND dependency.refclassid = 'pg_catalog.pg_class'::regclass
               AND dependency.refobjid = relation.oid
               AND dependency.deptype = 'a'
               AND sequence.relkind = 'S'
               AND sequence.relnamespace = relation.relnamespace
             ORDER BY sequence.relname) AS serials
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE namespace.nspname = $1::text
  AND relation.relkind IN ('r', 'v')
ORDER BY relation.relname;
