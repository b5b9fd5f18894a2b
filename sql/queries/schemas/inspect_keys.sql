-- inspect_keys: keys of a schema that do not begin with the tenant.
--
-- $1 schema_name  text
-- -> problem (a key of inspection.PROBLEMS), name, words (to be looked for in the file)
--
-- Such a key tells one tenant which values another one has, or loses his row to the other's.
WITH relation AS (
    SELECT relation.oid, relation.relname
    FROM pg_catalog.pg_class AS relation
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    WHERE namespace.nspname = $1::text
      AND relation.relkind IN ('r', 'p')
),
tenant AS (
    SELECT attribute.attrelid AS relation_oid, attribute.attnum AS number
    FROM relation
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
    WHERE attribute.attname = 'tenant_id'
)
SELECT 'key_without_tenant' AS problem,
       format('%I on %s', found.relname, relation.oid::regclass) AS name,
       ARRAY[found.relname::text, relation.relname::text] AS words
FROM relation
JOIN pg_catalog.pg_index AS index ON index.indrelid = relation.oid
JOIN pg_catalog.pg_class AS found ON found.oid = index.indexrelid
WHERE index.indisunique
  AND NOT EXISTS (SELECT FROM tenant
                  WHERE tenant.relation_oid = relation.oid
                    AND tenant.number = index.indkey[0])
UNION ALL
-- Compared by anything but "=", as in WITH <>, the tenant would not hold others apart.
SELECT 'exclusion_without_tenant',
       format('%I on %s', rule.conname, relation.oid::regclass),
       ARRAY[rule.conname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_constraint AS rule ON rule.conrelid = relation.oid
WHERE rule.conexclop IS NOT NULL
  AND NOT (EXISTS (SELECT FROM tenant
                   WHERE tenant.relation_oid = relation.oid
                     AND tenant.number = rule.conkey[1])
           AND rule.conexclop[1] = 'pg_catalog.=(pg_catalog.text,pg_catalog.text)'::regoperator)
UNION ALL
SELECT 'reference_without_tenant',
       format('%I on %s', link.conname, relation.oid::regclass),
       ARRAY[link.conname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_constraint AS link ON link.conrelid = relation.oid
WHERE link.contype = 'f'
  AND link.confrelid IN (SELECT other.oid FROM relation AS other)
  AND NOT (EXISTS (SELECT FROM tenant
                   WHERE tenant.relation_oid = link.conrelid AND tenant.number = link.conkey[1])
           AND EXISTS (SELECT FROM tenant
                       WHERE tenant.relation_oid = link.confrelid
                         AND tenant.number = link.confkey[1]))
UNION ALL
SELECT 'reference_outside',
       format('%I on %s', link.conname, relation.oid::regclass),
       ARRAY[link.conname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_constraint AS link ON link.conrelid = relation.oid
WHERE link.contype = 'f'
  AND link.confrelid NOT IN (SELECT other.oid FROM relation AS other)
UNION ALL
-- Would take the tenant from a row whose parent is erased, which NOT NULL then refuses.
SELECT 'reference_unsets_tenant',
       format('%I on %s', link.conname, relation.oid::regclass),
       ARRAY[link.conname::text, relation.relname::text]
FROM relation
JOIN pg_catalog.pg_constraint AS link ON link.conrelid = relation.oid
JOIN tenant ON tenant.relation_oid = link.conrelid AND tenant.number = ANY (link.conkey)
WHERE link.contype = 'f'
  AND (link.confupdtype IN ('n', 'd')
       OR link.confdeltype IN ('n', 'd')
          AND tenant.number = ANY (coalesce(link.confdelsetcols, link.conkey)))
ORDER BY problem, name;
