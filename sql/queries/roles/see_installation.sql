-- see_installation: what the names of this database's roles are made of, before there is any.
-- -> hex (as in see_roles), database, role (the session's; both quoted where they need it),
--    superuser, may_create_roles
SELECT left(encode(sha256(convert_to(control.system_identifier || '/' || base.oid, 'UTF8')),
                   'hex'), 8) AS hex,
       quote_ident(base.datname) AS database,
       quote_ident(login.rolname) AS role,
       login.rolsuper AS superuser,
       login.rolcreaterole AS may_create_roles
FROM pg_catalog.pg_control_system() AS control
CROSS JOIN pg_catalog.pg_database AS base
JOIN pg_catalog.pg_roles AS login ON login.rolname = session_user
WHERE base.datname = current_database();
