-- inspect_relations: what the wall does not admit about the tables and views of a schema.
--
-- $1 schema_name  text
-- -> problem (a key of inspection.PROBLEMS), name, words (to be looked for in the file)
WITH relation AS (
    SELECT relation.*
    FROM pg_catalog.pg_class AS relation
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    WHERE namespace.nspname = $1::text
      AND relation.relkind IN ('r', 'p', 'v', 'S')
)
SELECT 'partitioned' AS problem, relation.oid::regclass::text AS name,
       ARRAY[relation.relname::text] AS words
FROM relation
WHERE relation.relkind = 'p'
   OR relation.relispartition
   OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS link
              WHERE relation.oid IN (link.inhrelid, link.inhparent))
UNION ALL
SELECT 'typed_table', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.reloftype <> 0
UNION ALL
SELECT 'unlogged', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.relpersistence = 'u'
  AND relation.relkind = 'r'
UNION ALL
SELECT 'misnamed', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.relkind <> 'S'
  AND relation.relname !~ '^[a-z][a-z0-9_]{0,62}$'
UNION ALL
SELECT 'misnamed', format('%s.%I', relation.oid::regclass, attribute.attname),
       ARRAY[attribute.attname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
WHERE relation.relkind <> 'S'
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
  AND attribute.attname !~ '^[a-z][a-z0-9_]{0,62}$'
UNION ALL
SELECT 'no_tenant_id', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.relkind IN ('r', 'p')
  -- Under a collation that ignores case, tenant "a" would be tenant "A".
  AND NOT EXISTS (SELECT
                  FROM pg_catalog.pg_attribute AS attribute
                  JOIN pg_catalog.pg_collation AS collating
                    ON collating.oid = attribute.attcollation
                  WHERE attribute.attrelid = relation.oid
                    AND attribute.attname = 'tenant_id'
                    AND attribute.atttypid = 'pg_catalog.text'::regtype
                    AND attribute.attgenerated = ''
                    AND collating.collisdeterministic)
UNION ALL
SELECT 'framework_column', format('%s.%I', relation.oid::regclass, attribute.attname),
       ARRAY[attribute.attname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
WHERE relation.relkind IN ('r', 'p')
  AND attribute.attname IN ('written_at', 'deleted_at')
  AND NOT attribute.attisdropped
  AND (attribute.atttypid <> 'pg_catalog.timestamptz'::regtype OR attribute.attgenerated <> '')
UNION ALL
SELECT 'definer_view', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.relkind = 'v'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(relation.reloptions) AS option
                  WHERE option.option_name = 'security_invoker'
                    AND option.option_value::boolean)
UNION ALL
SELECT 'loose_sequence', relation.oid::regclass::text, ARRAY[relation.relname::text]
FROM relation
WHERE relation.relkind = 'S'
  AND NOT EXISTS (SELECT
                  FROM pg_catalog.pg_depend AS dependency
                  JOIN relation AS owner ON owner.oid = dependency.refobjid
                  WHERE dependency.classid = 'pg_catalog.pg_class'::regclass
                    AND dependency.objid = relation.oid
                    AND dependency.refclassid = 'pg_catalog.pg_class'::regclass
                    AND dependency.deptype IN ('a', 'i'))
UNION ALL
SELECT 'trigger', format('%I on %s', reaction.tgname, relation.oid::regclass),
       ARRAY[reaction.tgname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_trigger AS reaction ON reaction.tgrelid = relation.oid
WHERE NOT reaction.tgisinternal
  AND reaction.tgname <> 'harvestd_guard'
UNION ALL
SELECT 'rule', format('%I on %s', rule.rulename, relation.oid::regclass),
       ARRAY[rule.rulename::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_rewrite AS rule ON rule.ev_class = relation.oid
WHERE NOT (rule.rulename = '_RETURN' AND relation.relkind = 'v')
UNION ALL
SELECT 'policy', format('%I on %s', policy.polname, relation.oid::regclass),
       ARRAY[policy.polname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_policy AS policy ON policy.polrelid = relation.oid
WHERE policy.polname NOT IN ('harvestd_tenant', 'harvestd_daemon', 'harvestd_reader')
UNION ALL
-- Before the guard is there, or with it disabled, DO, EXECUTE, EXPLAIN ANALYZE and CREATE TABLE AS
-- write; the server counts it.
SELECT 'rows', written.relid::regclass::text, ARRAY[written.relname::text]
FROM pg_catalog.pg_stat_xact_user_tables AS written
WHERE written.schemaname = $1::text
  AND written.n_tup_ins + written.n_tup_upd + written.n_tup_del > 0
ORDER BY problem, name;
