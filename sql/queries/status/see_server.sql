-- see_server: what `harvestd doctor` asks the server about itself and about our role.
-- -> now, version_num, role, superuser, may_create_roles, owns_database, may_create_in_public,
--    max_connections (for roles like ours), connections (of everybody, as far as we may see),
--    max_prepared_transactions, lo_compat_privileges, in_recovery, local (a socket, or this very
--    machine), data_directory (null where we may not know it), database_bytes
SELECT clock_timestamp() AS now,
       current_setting('server_version_num')::integer AS version_num,
       session_user::text AS role,
       login.rolsuper AS superuser,
       login.rolsuper OR login.rolcreaterole AS may_create_roles,
       pg_catalog.pg_has_role(base.datdba, 'USAGE') AS owns_database,
       coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false)
           AS may_create_in_public,
       current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer
           - coalesce(current_setting('reserved_connections', true)::integer, 0)
           AS max_connections,
       (SELECT count(*)
        FROM pg_catalog.pg_stat_activity AS activity
        WHERE activity.backend_type = 'client backend') AS connections,
       current_setting('max_prepared_transactions')::integer AS max_prepared_transactions,
       current_setting('lo_compat_privileges')::boolean AS lo_compat_privileges,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr() AS local,
       (SELECT shown.setting FROM pg_catalog.pg_settings AS shown
        WHERE shown.name = 'data_directory') AS data_directory,
       pg_catalog.pg_database_size(current_database()) AS database_bytes
FROM pg_catalog.pg_roles AS login
CROSS JOIN pg_catalog.pg_database AS base
WHERE login.rolname = session_user
  AND base.datname = current_database();
