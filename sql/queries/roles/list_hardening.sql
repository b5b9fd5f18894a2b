-- list_hardening: what takes from everybody that which lets a login hold others up.
--
-- $1 prefix  text  what the names of this database's roles begin with
-- -> statement, losers (logins that are not harvestd's and have the right by PUBLIC alone; only
--    for rights on the database), taken (a function, CONNECT or TEMPORARY; null for a grant to our
--    own), in the order to be run; none when all is done
--
-- Locks of any key, sleep, notices, WAL messages, the three functions that make large objects,
-- other logins' statistics, connecting, temporary tables.  To unlock and unlink stay: seats are
-- cleaned with them.  Writing to a large object needs one that is one's own, or was given.
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
),
base AS (
    SELECT quote_ident(base.datname) AS name,
           coalesce(base.datacl, acldefault('d', base.datdba)) AS grants
    FROM pg_catalog.pg_database AS base
    WHERE base.datname = current_database()
),
given AS (
    SELECT acl.grantee, acl.privilege_type, acl.is_grantable
    FROM base
    CROSS JOIN LATERAL aclexplode(base.grants) AS acl
),
need AS (
    -- The daemon lets the owners of sources' schemas connect when it makes them.
    SELECT role.oid, role.rolname AS role, kind.privilege, part.name = 'daemon'
               AND kind.privilege = 'CONNECT' AS grantable
    FROM (VALUES ('daemon'), ('exec'), ('reader')) AS part (name)
    CROSS JOIN (VALUES ('CONNECT'), ('TEMPORARY')) AS kind (privilege)
    JOIN pg_catalog.pg_roles AS role ON role.rolname = $1::text || part.name
    UNION ALL
    SELECT role.oid, role.rolname, 'CONNECT', false
    FROM pg_catalog.pg_roles AS role
    WHERE starts_with(role.rolname, $1::text || 'src_')
)
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', function.name, keeper.name) AS statement,
       '{}'::text[] AS losers,
       NULL AS taken
FROM function
CROSS JOIN (VALUES ($1::text || 'daemon'), (session_user::text), ('pg_read_all_stats'))
    AS keeper (name)
WHERE NOT EXISTS (SELECT FROM aclexplode(function.grants) AS acl
                  WHERE acl.grantee = quote_ident(keeper.name)::regrole
                    AND acl.privilege_type = 'EXECUTE')
  AND (keeper.name <> 'pg_read_all_stats' OR function.name LIKE '%pg_stat_get_activity%')
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function.name), '{}', function.name
FROM function
WHERE EXISTS (SELECT FROM aclexplode(function.grants) AS acl WHERE acl.grantee = 0)
UNION ALL
SELECT format('GRANT %s ON DATABASE %s TO %I%s', need.privilege, base.name, need.role,
              CASE WHEN need.grantable THEN ' WITH GRANT OPTION' ELSE '' END), '{}', NULL
FROM base
CROSS JOIN need
WHERE NOT EXISTS (SELECT FROM given
                  WHERE given.grantee = need.oid
                    AND given.privilege_type = need.privilege
                    AND (given.is_grantable OR NOT need.grantable))
UNION ALL
SELECT format('REVOKE %s ON DATABASE %s FROM PUBLIC', given.privilege_type, base.name),
       ARRAY(SELECT login.rolname::text
             FROM pg_catalog.pg_roles AS login
             WHERE login.rolcanlogin
               AND NOT login.rolsuper
               AND NOT starts_with(login.rolname, 'harvestd_')
               AND NOT EXISTS (
                   SELECT FROM need
                   WHERE need.privilege = given.privilege_type
                     AND pg_catalog.pg_has_role(login.oid, need.oid, 'USAGE'))
               AND NOT EXISTS (
                   SELECT FROM given AS own
                   WHERE own.privilege_type = given.privilege_type
                     AND own.grantee <> 0
                     AND pg_catalog.pg_has_role(login.oid, own.grantee, 'USAGE'))
             ORDER BY login.rolname),
       given.privilege_type
FROM base
JOIN given ON given.grantee = 0 AND given.privilege_type IN ('CONNECT', 'TEMPORARY')
ORDER BY statement;
