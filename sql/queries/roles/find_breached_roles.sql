-- find_breached_roles: what roles of this database are, or belong to, that breaks the wall.
--
-- $1 prefix       text     what their names begin with
-- $2 connections  integer  that a seat needs
-- -> what, mend (a statement)
WITH ours AS (
    SELECT role.*,
           role.rolname IN ($1::text || 'daemon', $1::text || 'exec', $1::text || 'reader',
                            $1::text || 'keeper') AS nobodys,
           role.rolname = $1::text || 'keeper' AS keeper,
           role.rolname ~ ('^' || $1::text || 'seat_[0-9]+$') AS seat
    FROM pg_catalog.pg_roles AS role
    WHERE starts_with(role.rolname, $1::text)
)
SELECT format('the role %s has %s', ours.rolname, attribute.name) AS what,
       format('ALTER ROLE %I NO%s', ours.rolname, attribute.name) AS mend
FROM ours
CROSS JOIN LATERAL (VALUES ('SUPERUSER', ours.rolsuper), ('BYPASSRLS', ours.rolbypassrls),
                           ('CREATEROLE', ours.rolcreaterole), ('CREATEDB', ours.rolcreatedb),
                           ('REPLICATION', ours.rolreplication)) AS attribute (name, there)
WHERE attribute.there
  AND NOT (ours.keeper AND attribute.name = 'CREATEROLE')
UNION ALL
SELECT format('the keeper %s may make no logins', ours.rolname),
       format('ALTER ROLE %I CREATEROLE', ours.rolname)
FROM ours
JOIN pg_catalog.pg_namespace AS place
  ON place.nspname = 'harvestd_keeper' AND place.nspowner = ours.oid
WHERE ours.keeper AND NOT ours.rolcreaterole
UNION ALL
SELECT format('the schema harvestd_keeper belongs to %s',
              pg_catalog.pg_get_userbyid(place.nspowner)),
       CASE WHEN ours.oid IS NULL THEN 'DROP SCHEMA harvestd_keeper CASCADE'
            ELSE format('ALTER SCHEMA harvestd_keeper OWNER TO %I', ours.rolname) END
FROM pg_catalog.pg_namespace AS place
LEFT JOIN ours ON ours.keeper
WHERE place.nspname = 'harvestd_keeper'  -- that of a clone's original is not used there
  AND pg_catalog.pg_get_userbyid(place.nspowner) !~ '^harvestd_[0-9a-f]{8}_keeper$'
UNION ALL
SELECT format('the role %s can log in', ours.rolname), format('ALTER ROLE %I NOLOGIN', ours.rolname)
FROM ours
WHERE ours.nobodys AND ours.rolcanlogin
UNION ALL
SELECT format('the seat %s cannot log in', ours.rolname),
       format('ALTER ROLE %I LOGIN', ours.rolname)
FROM ours
WHERE ours.seat AND NOT ours.rolcanlogin
UNION ALL
SELECT format('the password of the login %s was valid until %s', ours.rolname, ours.rolvaliduntil),
       format('ALTER ROLE %I VALID UNTIL %L', ours.rolname, 'infinity')
FROM ours
WHERE NOT ours.nobodys AND ours.rolvaliduntil <= now()
UNION ALL
SELECT format('the login %s may have %s connection(s)', ours.rolname, ours.rolconnlimit),
       format('ALTER ROLE %I CONNECTION LIMIT %s', ours.rolname,
              CASE WHEN ours.seat THEN $2::integer ELSE -1 END)
FROM ours
WHERE ours.seat AND ours.rolconnlimit BETWEEN 0 AND $2::integer - 1
   OR NOT ours.nobodys AND ours.rolconnlimit = 0
UNION ALL
SELECT format('the seat %s is no member of %sexec', ours.rolname, $1::text),
       format('GRANT %I TO %I%s', $1::text || 'exec', ours.rolname,
              CASE WHEN current_setting('server_version_num')::int >= 160000
                   THEN ' WITH INHERIT TRUE, SET FALSE'
                   ELSE format('; ALTER ROLE %I INHERIT', ours.rolname) END)
FROM ours
WHERE ours.seat AND NOT pg_catalog.pg_has_role(ours.oid, $1::text || 'exec', 'USAGE')
UNION ALL
SELECT format('the role %s is a member of %s', member.rolname, role.rolname),
       format('REVOKE %I FROM %I%s', role.rolname, member.rolname,
              -- Each grantor's grant is one of its own since 16.
              CASE WHEN current_setting('server_version_num')::int >= 160000
                   THEN format(' GRANTED BY %I', pg_catalog.pg_get_userbyid(membership.grantor))
                   ELSE '' END)
FROM pg_catalog.pg_auth_members AS membership
JOIN pg_catalog.pg_roles AS role ON role.oid = membership.roleid
JOIN pg_catalog.pg_roles AS member ON member.oid = membership.member
LEFT JOIN ours ON ours.oid = member.oid
WHERE ours.oid IS NOT NULL
      AND NOT (ours.seat AND role.rolname = $1::text || 'exec' AND NOT membership.admin_option)
      AND NOT (ours.keeper AND starts_with(role.rolname, $1::text))
   -- Who made the role may manage it; who may do all the daemon may, gains nothing.
   -- Who owns harvestd's tables migrated them, perhaps for another role.
   OR ours.oid IS NULL
      AND role.rolname = $1::text || 'daemon'
      AND member.rolname <> session_user
      AND NOT member.rolcreaterole
      AND NOT pg_catalog.pg_has_role(
          member.oid, (SELECT place.nspowner FROM pg_catalog.pg_namespace AS place
                       WHERE place.nspname = 'harvestd'), 'MEMBER')
   OR ours.oid IS NULL
      AND NOT membership.admin_option
      AND NOT member.rolcreaterole
      AND (role.rolname = $1::text || 'keeper'  -- the daemon neither
           OR role.rolname ~ ('^' || $1::text || '(exec$|seat_|src_)')
              AND member.rolname <> session_user
              AND NOT pg_catalog.pg_has_role(member.oid, $1::text || 'daemon', 'MEMBER'))
ORDER BY what;
