-- describe_rules: the constraints, indexes and statistics of a schema's tables.
--
-- $1 schema_name  text
-- -> relation, kind, name, definition (without its name), constrained (made by a constraint),
--    made (what follows ALTER TABLE ... ADD CONSTRAINT name, or the whole CREATE)
--
-- A unique constraint and a unique index of the same columns hold the same rows apart: they are
-- described alike.  NOT VALID is left out: it holds for all rows to come.  An index that is not
-- valid, as a CONCURRENTLY that failed leaves behind, is none.
WITH relation AS (
    SELECT relation.oid, relation.relname
    FROM pg_catalog.pg_class AS relation
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    WHERE namespace.nspname = $1::text
      AND relation.relkind = 'r'
),
found AS (
    SELECT relation.relname AS relation,
           CASE rule.contype WHEN 'p' THEN 'primary key' WHEN 'c' THEN 'check'
                             WHEN 'f' THEN 'foreign key' ELSE 'exclusion' END AS kind,
           rule.conname AS name,
           regexp_replace(pg_catalog.pg_get_constraintdef(rule.oid), ' NOT VALID$', '')
               AS definition,
           true AS constrained,
           pg_catalog.pg_get_constraintdef(rule.oid) AS made
    FROM relation
    JOIN pg_catalog.pg_constraint AS rule ON rule.conrelid = relation.oid
    WHERE rule.contype IN ('p', 'c', 'f', 'x')
    UNION ALL
    SELECT relation.relname,
           CASE WHEN index.indisunique THEN 'unique key' ELSE 'index' END,
           named.relname,
           -- What follows CREATE INDEX name.
           substr(spelt.text, length(format('CREATE %sINDEX %I', spelt.sort, named.relname)) + 2)
               || CASE WHEN NOT index.indimmediate THEN ' DEFERRABLE' ELSE '' END
               || CASE WHEN rule.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END,
           rule.oid IS NOT NULL,
           coalesce(pg_catalog.pg_get_constraintdef(rule.oid),
                    regexp_replace(spelt.text, 'INDEX', 'INDEX IF NOT EXISTS'))
    FROM relation
    JOIN pg_catalog.pg_index AS index ON index.indrelid = relation.oid
    JOIN pg_catalog.pg_class AS named ON named.oid = index.indexrelid
    LEFT JOIN pg_catalog.pg_constraint AS rule
      ON rule.conindid = index.indexrelid AND rule.contype = 'u'
    CROSS JOIN LATERAL (
        SELECT pg_catalog.pg_get_indexdef(index.indexrelid) AS text,
               CASE WHEN index.indisunique THEN 'UNIQUE ' ELSE '' END AS sort
    ) AS spelt
    WHERE NOT index.indisprimary
      AND NOT index.indisexclusion
      AND index.indisvalid
    UNION ALL
    SELECT relation.relname,
           'statistics',
           sample.stxname,
           substr(spelt.text, length(format('CREATE STATISTICS %s', spelt.place)) + 2),
           false,
           regexp_replace(spelt.text, 'STATISTICS', 'STATISTICS IF NOT EXISTS')
    FROM relation
    JOIN pg_catalog.pg_statistic_ext AS sample ON sample.stxrelid = relation.oid
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = sample.stxnamespace
    CROSS JOIN LATERAL (
        SELECT pg_catalog.pg_get_statisticsobjdef(sample.oid) AS text,
               format('%I.%I', namespace.nspname, sample.stxname) AS place
    ) AS spelt
)
SELECT quote_ident(found.relation) AS relation,
       found.kind,
       quote_ident(found.name) AS name,
       found.definition,
       found.constrained,
       found.made
FROM found
ORDER BY found.relation, found.kind, found.name;
