-- find_breached_settings: settings with which no trigger fires or no policy holds, by default, or
-- in the hands of whom they should not be.
--
-- $1 prefix  text  what the names of this database's roles begin with
-- -> what, mend (a statement)
--
-- A seat may give itself row_security, which refuses its own queries and is reset with its
-- password; only a superuser gives anybody session_replication_role.
WITH stored AS (
    SELECT setting.setdatabase, setting.setrole, place.datname, role.rolname, role.rolsuper,
           split_part(one, '=', 1) AS name,
           substr(one, strpos(one, '=') + 1) AS value
    FROM pg_catalog.pg_db_role_setting AS setting
    LEFT JOIN pg_catalog.pg_database AS place ON place.oid = setting.setdatabase
    LEFT JOIN pg_catalog.pg_roles AS role ON role.oid = setting.setrole
    CROSS JOIN LATERAL unnest(setting.setconfig) AS one
    WHERE setting.setdatabase = 0 OR place.datname = current_database()
),
bad AS (
    SELECT stored.*,
           CASE WHEN stored.setrole = 0 AND stored.setdatabase = 0 THEN 'ALTER ROLE ALL'
                WHEN stored.setrole = 0 THEN format('ALTER DATABASE %I', stored.datname)
                WHEN stored.setdatabase = 0 THEN format('ALTER ROLE %I', stored.rolname)
                ELSE format('ALTER ROLE %I IN DATABASE %I', stored.rolname, stored.datname)
           END AS alter_it
    FROM stored
    WHERE (stored.name = 'session_replication_role' AND stored.value = 'replica'
           OR stored.name = 'row_security'
              AND NOT lower(stored.value) = ANY ('{on,true,yes,1,t,y}'))
      -- Of other logins those that write what triggers of harvestd's look at.
      AND (stored.setrole = 0
           OR stored.rolname = session_user
           OR starts_with(stored.rolname, $1::text) AND NOT (
               stored.name = 'row_security' AND stored.rolname ~ '_seat_[0-9]+$')
           OR stored.name = 'session_replication_role'
              AND NOT stored.rolsuper
              AND pg_catalog.has_table_privilege(
                  stored.setrole, 'public.tenant_data_source_config', 'INSERT, UPDATE, DELETE'))
)
SELECT format('%s of %s is %s', bad.name,
              coalesce('the role ' || bad.rolname, 'everybody'), bad.value) AS what,
       format('%s RESET %s', bad.alter_it, bad.name) AS mend
FROM bad
UNION ALL
SELECT format('%s is %s on the whole server', setting.name, setting.setting),
       format('ALTER SYSTEM RESET %s; SELECT pg_catalog.pg_reload_conf()', setting.name)
FROM pg_catalog.pg_settings AS setting
WHERE setting.source = 'configuration file'
  AND (setting.name, setting.setting) IN (('session_replication_role', 'replica'),
                                          ('row_security', 'off'))
UNION ALL
SELECT format('%s may %s the parameter %s', grantee.name, acl.privilege_type, parameter.parname),
       format('REVOKE %s ON PARAMETER %s FROM %s CASCADE', acl.privilege_type, parameter.parname,
              grantee.name)
FROM pg_catalog.pg_parameter_acl AS parameter
CROSS JOIN LATERAL aclexplode(parameter.paracl) AS acl
CROSS JOIN LATERAL (SELECT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(
                        pg_catalog.pg_get_userbyid(acl.grantee)) END AS name) AS grantee
WHERE parameter.parname IN ('session_replication_role', 'lo_compat_privileges')
  AND (acl.grantee = 0 OR starts_with(pg_catalog.pg_get_userbyid(acl.grantee), $1::text))
ORDER BY what;
