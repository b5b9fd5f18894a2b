-- list_grants_in_schema: what others than the owner may do with a schema and what is in it.
--
-- $1 schema_name  text
-- $2 role         text   the owner, whose default privileges count too
-- -> kind (SCHEMA, TABLE, SEQUENCE, TYPE, DEFAULT PRIVILEGES), name, grantee (PUBLIC or a role),
--    words (to be looked for in the file)
WITH place AS (
    SELECT namespace.oid, namespace.nspname, namespace.nspowner, namespace.nspacl
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname = $1::text
),
relation AS (
    SELECT relation.oid,
           relation.relname,
           relation.relowner,
           relation.relacl,
           CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind
    FROM place
    JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = place.oid
),
given AS (
    SELECT 'SCHEMA' AS kind, quote_ident(place.nspname) AS name, place.nspname AS word,
           acl.grantee, place.nspowner AS owner
    FROM place
    CROSS JOIN LATERAL aclexplode(place.nspacl) AS acl
    UNION ALL
    SELECT relation.kind, relation.oid::regclass::text, relation.relname,
           acl.grantee, relation.relowner
    FROM relation
    CROSS JOIN LATERAL aclexplode(relation.relacl) AS acl
    UNION ALL
    SELECT relation.kind, relation.oid::regclass::text, relation.relname,
           acl.grantee, relation.relowner
    FROM relation
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
    CROSS JOIN LATERAL aclexplode(attribute.attacl) AS acl
    -- Before 18 a column that was dropped keeps its rights, which no REVOKE reaches.
    WHERE NOT attribute.attisdropped
    UNION ALL
    SELECT 'TYPE', type.oid::regtype::text, type.typname, acl.grantee, type.typowner
    FROM place
    JOIN pg_catalog.pg_type AS type ON type.typnamespace = place.oid
    CROSS JOIN LATERAL aclexplode(type.typacl) AS acl
    WHERE acl.grantee <> 0  -- everybody may name a type anyway
    UNION ALL
    SELECT 'DEFAULT PRIVILEGES', 'of ' || $2::text, 'PRIVILEGES', acl.grantee, 0::oid
    FROM pg_catalog.pg_default_acl AS standing
    LEFT JOIN LATERAL aclexplode(standing.defaclacl) AS acl ON true
    WHERE pg_catalog.pg_get_userbyid(standing.defaclrole) = $2::text
       OR standing.defaclnamespace = (SELECT place.oid FROM place)
)
SELECT DISTINCT
       given.kind,
       given.name,
       CASE WHEN given.grantee = 0 THEN 'PUBLIC'
            ELSE coalesce(pg_catalog.pg_get_userbyid(given.grantee)::text, 'nobody') END AS grantee,
       ARRAY[given.word::text] AS words
FROM given
WHERE given.grantee IS DISTINCT FROM given.owner
ORDER BY kind, name, grantee;
