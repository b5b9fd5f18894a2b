-- see_role: whether a role exists, and whether the session's role has its rights.
--
-- $1 name  text
-- -> made, member, superuser (the session's role)
SELECT made.oid IS NOT NULL AS made,
       coalesce(pg_catalog.pg_has_role(session_user, made.oid, 'USAGE'), false) AS member,
       login.rolsuper AS superuser
FROM pg_catalog.pg_roles AS login
LEFT JOIN pg_catalog.pg_roles AS made ON made.rolname = $1::text
WHERE login.rolname = session_user;
