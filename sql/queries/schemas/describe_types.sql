-- describe_types: the enums and domains of a schema.
--
-- $1 schema_name  text
-- -> name, is_enum, labels (of an enum, in order), of a domain: type, collation (null: the
--    type's own), not_null, expression (its default), checks (name, definition, ...)
SELECT quote_ident(kind.typname) AS name,
       kind.typtype = 'e' AS is_enum,
       ARRAY(SELECT label.enumlabel::text
             FROM pg_catalog.pg_enum AS label
             WHERE label.enumtypid = kind.oid
             ORDER BY label.enumsortorder) AS labels,
       pg_catalog.format_type(kind.typbasetype, kind.typtypmod) AS type,
       CASE WHEN kind.typcollation <> below.typcollation
            THEN kind.typcollation::regcollation::text END AS collation,
       kind.typnotnull AS not_null,
       pg_catalog.pg_get_expr(kind.typdefaultbin, 0) AS expression,
       ARRAY(SELECT ARRAY[quote_ident(rule.conname),
                          regexp_replace(pg_catalog.pg_get_constraintdef(rule.oid),
                                         ' NOT VALID$', '')]
             FROM pg_catalog.pg_constraint AS rule
             WHERE rule.contypid = kind.oid
               AND rule.contype = 'c'
             ORDER BY rule.conname) AS checks
FROM pg_catalog.pg_type AS kind
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = kind.typnamespace
LEFT JOIN pg_catalog.pg_type AS below ON below.oid = kind.typbasetype
WHERE namespace.nspname = $1::text
  AND kind.typtype IN ('e', 'd')
ORDER BY kind.typname;
