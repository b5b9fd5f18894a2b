-- list_hardening: what takes from everybody the functions that let a login hold others up.
--
-- $1 daemon  text  the role that keeps them, as the session's does
-- -> statement; none when all is done
--
-- Locks of any key, sleep, notices, WAL messages, large objects, other logins' statistics.  To
-- unlock and unlink stay: seats are cleaned with them.
WITH function AS (
    SELECT function.oid,
           format('%I.%I(%s)', 'pg_catalog', function.proname,
                  pg_catalog.pg_get_function_identity_arguments(function.oid)) AS name,
           coalesce(function.proacl, acldefault('f', function.proowner)) AS grants
    FROM pg_catalog.pg_proc AS function
    WHERE function.pronamespace = 'pg_catalog'::regnamespace
      AND function.proname ~ ('^(pg_(try_)?advisory_(xact_)?lock(_shared)?|pg_sleep(_for|_until)?'
                              '|pg_notify|pg_logical_emit_message|pg_stat_get_activity'
                              '|lo_creat|lo_create|lo_from_bytea)$')
)
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', function.name, keeper.name) AS statement
FROM function
CROSS JOIN (VALUES ($1::text), (session_user::text), ('pg_read_all_stats')) AS keeper (name)
WHERE NOT EXISTS (SELECT FROM aclexplode(function.grants) AS acl
                  WHERE acl.grantee = quote_ident(keeper.name)::regrole
                    AND acl.privilege_type = 'EXECUTE')
  AND (keeper.name <> 'pg_read_all_stats' OR function.name LIKE '%pg_stat_get_activity%')
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function.name)
FROM function
WHERE EXISTS (SELECT FROM aclexplode(function.grants) AS acl WHERE acl.grantee = 0)
ORDER BY statement;
