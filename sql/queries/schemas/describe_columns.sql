-- describe_columns: the columns of a schema's tables, and attributes of its composite types.
--
-- $1 schema_name  text
-- -> relation, composite, keyed, name, type (as PostgreSQL spells it), collation (null: the
--    type's own), not_null, expression (its default, or what it is generated from, or null),
--    generated ('', 's' stored, 'v' virtual), identity ('', 'a' always, 'd' by default),
--    sequence (what a serial or identity column counts by, or null), counts (its options)
--
-- All names as SQL spells them: quoted where they need it.
SELECT quote_ident(relation.relname) AS relation,
       relation.relkind = 'c' AS composite,
       EXISTS (SELECT FROM pg_catalog.pg_index AS index
               WHERE index.indrelid = relation.oid
                 AND index.indisunique
                 AND index.indpred IS NULL) AS keyed,
       quote_ident(attribute.attname) AS name,
       pg_catalog.format_type(attribute.atttypid, attribute.atttypmod) AS type,
       CASE WHEN attribute.attcollation <> kind.typcollation
            THEN attribute.attcollation::regcollation::text END AS collation,
       attribute.attnotnull AS not_null,
       pg_catalog.pg_get_expr(filling.adbin, filling.adrelid) AS expression,
       attribute.attgenerated::text AS generated,
       attribute.attidentity::text AS identity,
       sequence.place AS sequence,
       sequence.counts
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
JOIN pg_catalog.pg_type AS kind ON kind.oid = attribute.atttypid
LEFT JOIN pg_catalog.pg_attrdef AS filling
  ON filling.adrelid = relation.oid AND filling.adnum = attribute.attnum
LEFT JOIN LATERAL (
    SELECT format('%I.%I', $1::text, counter.relname) AS place,
           format('AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE',
                  pg_catalog.format_type(rule.seqtypid, NULL), rule.seqincrement, rule.seqmin,
                  rule.seqmax, rule.seqstart, rule.seqcache,
                  CASE WHEN NOT rule.seqcycle THEN 'NO ' END) AS counts
    FROM pg_catalog.pg_depend AS dependency
    JOIN pg_catalog.pg_class AS counter ON counter.oid = dependency.objid
    JOIN pg_catalog.pg_sequence AS rule ON rule.seqrelid = counter.oid
    WHERE dependency.classid = 'pg_catalog.pg_class'::regclass
      AND dependency.refclassid = 'pg_catalog.pg_class'::regclass
      AND dependency.refobjid = relation.oid
      AND dependency.refobjsubid = attribute.attnum
      AND dependency.deptype IN ('a', 'i')
    ORDER BY counter.relname
    LIMIT 1
) AS sequence ON true
WHERE namespace.nspname = $1::text
  AND relation.relkind IN ('r', 'c')
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
ORDER BY relation.relname, attribute.attnum;
