-- find_breached_functions: functions of harvestd that strangers call, own, or could mislead.
-- -> what, mend (a statement)
WITH made AS (
    SELECT function.*,
           function.oid::regprocedure::text AS name,
           place.nspname,
           place.nspowner,
           place.nspname = 'harvestd_keeper' AS keepers
    FROM pg_catalog.pg_proc AS function
    JOIN pg_catalog.pg_namespace AS place ON place.oid = function.pronamespace
    WHERE place.nspname IN ('harvestd', 'harvestd_api', 'harvestd_keeper')
)
SELECT format('everybody may call %s', made.name) AS what,
       format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', made.name) AS mend
FROM made
WHERE EXISTS (SELECT
              FROM aclexplode(coalesce(made.proacl, acldefault('f', made.proowner))) AS acl
              WHERE acl.grantee = 0)
UNION ALL
SELECT format('%s runs with the rights of whoever calls it', made.name),
       format('ALTER FUNCTION %s SECURITY DEFINER', made.name)
FROM made
WHERE NOT made.prosecdef
UNION ALL
SELECT format('%s, which runs with its owner''s rights, looks names up where its caller says',
              made.name),
       format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', made.name)
FROM made
WHERE made.prosecdef
  AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(made.proconfig, '{}'))
UNION ALL
SELECT format('%s belongs to %s', made.name, pg_catalog.pg_get_userbyid(made.proowner)),
       format('ALTER FUNCTION %s OWNER TO %I', made.name,
              pg_catalog.pg_get_userbyid(made.nspowner))
FROM made
WHERE CASE
    WHEN NOT made.keepers THEN NOT pg_catalog.pg_has_role(made.proowner, made.nspowner, 'MEMBER')
    -- No superuser's either; where the schema is a stranger's, find_breached_roles says that.
    ELSE made.proowner <> made.nspowner
         AND pg_catalog.pg_get_userbyid(made.nspowner) ~ '^harvestd_[0-9a-f]{8}_keeper$'
END
ORDER BY what;
