-- inspect_calls: expressions of a schema that call functions which do not come with PostgreSQL.
--
-- $1 schema_name  text
-- -> problem (a key of inspection.PROBLEMS), name, words (to be looked for in the file)
--
-- Whoever writes a row runs its defaults, checks and index expressions with his own rights, and
-- whoever reads a view runs what it calls.
-- PostgreSQL notes no dependency on what it comes with, so each one noted is somebody's own.
WITH place AS (
    SELECT namespace.oid
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname = $1::text
),
relation AS (
    SELECT relation.oid, relation.relname
    FROM pg_catalog.pg_class AS relation
    JOIN place ON place.oid = relation.relnamespace
),
caller AS (
    SELECT 'pg_catalog.pg_attrdef'::regclass AS classid,
           filling.oid AS objid,
           format('the default of %s.%I', relation.oid::regclass, attribute.attname) AS name,
           attribute.attname AS word
    FROM relation
    JOIN pg_catalog.pg_attrdef AS filling ON filling.adrelid = relation.oid
    JOIN pg_catalog.pg_attribute AS attribute
      ON attribute.attrelid = relation.oid AND attribute.attnum = filling.adnum
    UNION ALL
    SELECT 'pg_catalog.pg_constraint'::regclass,
           rule.oid,
           format('the constraint %I on %s', rule.conname,
                  coalesce(relation.oid::regclass::text, kind.oid::regtype::text)),
           coalesce(relation.relname, kind.typname)
    FROM pg_catalog.pg_constraint AS rule
    LEFT JOIN relation ON relation.oid = rule.conrelid
    LEFT JOIN pg_catalog.pg_type AS kind
      ON kind.oid = rule.contypid AND kind.typnamespace = (SELECT place.oid FROM place)
    WHERE rule.contype = 'c'
      AND coalesce(relation.oid, kind.oid) IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_class'::regclass,
           relation.oid,
           format('the index %s', relation.oid::regclass),
           relation.relname
    FROM relation
    JOIN pg_catalog.pg_index AS index ON index.indexrelid = relation.oid
    UNION ALL
    SELECT 'pg_catalog.pg_type'::regclass,
           kind.oid,
           format('the default of %s', kind.oid::regtype),
           kind.typname
    FROM place
    JOIN pg_catalog.pg_type AS kind ON kind.typnamespace = place.oid AND kind.typtype = 'd'
    UNION ALL
    SELECT 'pg_catalog.pg_statistic_ext'::regclass,
           sample.oid,
           format('the statistics %I', sample.stxname),
           sample.stxname
    FROM place
    JOIN pg_catalog.pg_statistic_ext AS sample ON sample.stxnamespace = place.oid
    UNION ALL
    SELECT 'pg_catalog.pg_rewrite'::regclass,
           rule.oid,
           format('the view %s', relation.oid::regclass),
           relation.relname
    FROM relation
    JOIN pg_catalog.pg_rewrite AS rule ON rule.ev_class = relation.oid
)
SELECT DISTINCT
       'call' AS problem,
       format('%s (%s)', caller.name,
              pg_catalog.pg_describe_object(called.refclassid, called.refobjid, 0)) AS name,
       ARRAY[caller.word::text] AS words
FROM caller
JOIN pg_catalog.pg_depend AS called
  ON called.classid = caller.classid AND called.objid = caller.objid
WHERE called.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
  AND NOT (called.refclassid = 'pg_catalog.pg_proc'::regclass
           AND called.refobjid = 'harvestd_api.tenant()'::regprocedure)
UNION
-- What comes with PostgreSQL leaves no dependency; the stored expression names it all the same.
-- Volatile ones act on the session or run SQL as whoever writes or reads: set_config, ts_rewrite.
-- A call is the only way to those: PostgreSQL brings no volatile operator, aggregate, window
-- function, cast, or input and output of a type (a test asks each version).
SELECT 'act', format('%s (%s)', spoken.name, called.oid::regprocedure), ARRAY[spoken.word]
FROM (
    SELECT caller.name, caller.word::text AS word, filling.adbin::text AS tree
    FROM caller
    JOIN pg_catalog.pg_attrdef AS filling
      ON caller.classid = 'pg_catalog.pg_attrdef'::regclass AND filling.oid = caller.objid
    UNION ALL
    SELECT caller.name, caller.word::text, rule.conbin::text
    FROM caller
    JOIN pg_catalog.pg_constraint AS rule
      ON caller.classid = 'pg_catalog.pg_constraint'::regclass AND rule.oid = caller.objid
    UNION ALL
    SELECT caller.name, caller.word::text, kind.typdefaultbin::text
    FROM caller
    JOIN pg_catalog.pg_type AS kind
      ON caller.classid = 'pg_catalog.pg_type'::regclass AND kind.oid = caller.objid
    UNION ALL
    SELECT caller.name, caller.word::text, sample.stxexprs::text
    FROM caller
    JOIN pg_catalog.pg_statistic_ext AS sample
      ON caller.classid = 'pg_catalog.pg_statistic_ext'::regclass AND sample.oid = caller.objid
    UNION ALL
    SELECT caller.name, caller.word::text, rule.ev_action::text
    FROM caller
    JOIN pg_catalog.pg_rewrite AS rule
      ON caller.classid = 'pg_catalog.pg_rewrite'::regclass AND rule.oid = caller.objid
) AS spoken
CROSS JOIN LATERAL regexp_matches(spoken.tree, ':[a-z]*funcid ([0-9]+)', 'g') AS found (ids)
JOIN pg_catalog.pg_proc AS called ON called.oid = found.ids[1]::oid
WHERE called.provolatile = 'v' AND called.proname NOT IN (
          'nextval', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'random', 'random_normal',
          'clock_timestamp', 'timeofday')
   OR called.proname ~ '^(query|table|schema|database|cursor)_to_xml|^ts_stat$'
ORDER BY problem, name;
