-- find_breached_grants: who may do what with harvestd's own tables and functions, and should not.
--
-- $1 prefix  text  what the names of this database's roles begin with
-- -> what, mend (a statement)
--
-- On the application's tables others than plugin SQL may have what they like.
WITH held AS (
    SELECT 'TABLE' AS kind, relation.oid::regclass::text AS name, relation.relowner AS owner,
           place.nspname, acl.grantee, acl.privilege_type
    FROM pg_catalog.pg_class AS relation
    JOIN pg_catalog.pg_namespace AS place ON place.oid = relation.relnamespace
    CROSS JOIN LATERAL aclexplode(relation.relacl) AS acl
    WHERE relation.relkind IN ('r', 'p', 'v')
      AND (place.nspname = 'harvestd'
           OR place.nspname = 'public' AND relation.relname IN (
               'tenant', 'tenant_data_source_config', 'data_source_run'))
    UNION ALL
    SELECT 'FUNCTION', function.oid::regprocedure::text, function.proowner,
           place.nspname, acl.grantee, acl.privilege_type
    FROM pg_catalog.pg_proc AS function
    JOIN pg_catalog.pg_namespace AS place ON place.oid = function.pronamespace
    CROSS JOIN LATERAL aclexplode(function.proacl) AS acl
    WHERE place.nspname IN ('harvestd', 'harvestd_api', 'harvestd_keeper')
      AND acl.grantee <> 0  -- find_breached_functions says that
    UNION ALL
    SELECT 'SCHEMA', quote_ident(place.nspname), place.nspowner,
           place.nspname, acl.grantee, acl.privilege_type
    FROM pg_catalog.pg_namespace AS place
    CROSS JOIN LATERAL aclexplode(place.nspacl) AS acl
    WHERE place.nspname IN ('harvestd', 'harvestd_api', 'harvestd_keeper')
),
named AS (
    SELECT held.*,
           CASE held.grantee WHEN 0 THEN 'PUBLIC'
                ELSE quote_ident(pg_catalog.pg_get_userbyid(held.grantee)) END AS grantee_name,
           held.grantee <> 0 AND starts_with(pg_catalog.pg_get_userbyid(held.grantee), $1::text)
               AS ours
    FROM held
    WHERE held.grantee <> held.owner
      AND NOT (held.grantee <> 0
               AND pg_catalog.pg_get_userbyid(held.grantee) = $1::text || 'daemon')
)
SELECT DISTINCT
       format('%s may %s the %s %s', named.grantee_name, named.privilege_type,
              lower(named.kind), named.name) AS what,
       format('REVOKE %s ON %s %s FROM %s CASCADE', named.privilege_type, named.kind, named.name,
              named.grantee_name) AS mend
FROM named
WHERE CASE
    WHEN named.kind = 'TABLE' AND named.nspname = 'public' THEN named.grantee = 0 OR named.ours
    WHEN named.kind = 'TABLE' OR named.nspname <> 'harvestd_api' THEN true
    -- What plugin SQL may call is in harvestd_api.
    ELSE NOT named.ours OR named.privilege_type = 'CREATE'
END
ORDER BY what;
