-- see_roles: who this database is, and which of its roles and rights are missing.
-- -> system_identifier, database_oid, stored_hex, hex (what it should be), role, superuser,
--    may_create_roles, owns_database, missing (names, empty when all is well)
--
-- hex: sha256 over the server's identifier and the database's oid, so a clone or a restored
-- dump, which brings the stored row along, makes roles of its own.
WITH here AS (
    SELECT control.system_identifier,
           base.oid AS database_oid,
           base.datacl AS grants,
           pg_catalog.pg_has_role(base.datdba, 'USAGE') AS owned,
           left(encode(sha256(convert_to(control.system_identifier || '/' || base.oid, 'UTF8')),
                       'hex'), 8) AS hex
    FROM pg_catalog.pg_control_system() AS control
    CROSS JOIN pg_catalog.pg_database AS base
    WHERE base.datname = current_database()
),
role AS (
    SELECT (SELECT made.oid FROM pg_catalog.pg_roles AS made
            WHERE made.rolname = 'harvestd_' || here.hex || '_daemon') AS daemon,
           (SELECT made.oid FROM pg_catalog.pg_roles AS made
            WHERE made.rolname = 'harvestd_' || here.hex || '_exec') AS exec,
           (SELECT made.oid FROM pg_catalog.pg_roles AS made
            WHERE made.rolname = 'harvestd_' || here.hex || '_reader') AS reader
    FROM here
),
need AS (
    SELECT 'the row of installation' AS name,
           EXISTS (SELECT FROM harvestd.installation AS stored
                   WHERE stored.hex = here.hex
                     AND stored.system_identifier = here.system_identifier
                     AND stored.database_oid = here.database_oid) AS met
    FROM here
    UNION ALL
    SELECT 'role harvestd_' || here.hex || '_' || part.name, part.oid IS NOT NULL
    FROM here
    CROSS JOIN role
    CROSS JOIN LATERAL (VALUES ('daemon', role.daemon), ('exec', role.exec),
                               ('reader', role.reader)) AS part (name, oid)
    UNION ALL
    SELECT 'membership of the role of HARVESTD_DATABASE_URL in the daemon role',
           pg_catalog.pg_has_role(session_user, role.daemon, 'USAGE')
    FROM role
    UNION ALL
    -- Explicit, not through PUBLIC: that may be revoked one day (migrate --harden).
    SELECT kind.name || ' on the database',
           NOT here.owned
               AND pg_catalog.has_database_privilege(role.exec, here.database_oid, kind.name)
           OR EXISTS (SELECT FROM aclexplode(here.grants) AS given
                      WHERE given.grantee = role.exec AND given.privilege_type = kind.name)
    FROM here
    CROSS JOIN role
    CROSS JOIN (VALUES ('CONNECT'), ('TEMPORARY')) AS kind (name)
    UNION ALL
    SELECT 'USAGE on the schema harvestd_api',
           pg_catalog.has_schema_privilege(role.exec, 'harvestd_api', 'USAGE')
               AND pg_catalog.has_schema_privilege(role.daemon, 'harvestd_api', 'USAGE')
    FROM role
    UNION ALL
    SELECT 'EXECUTE on harvestd_api.' || function.proname,
           pg_catalog.has_function_privilege(role.daemon, function.oid, 'EXECUTE')
               -- Named here: this replica may start where a newer one made others.
               AND (function.proname NOT IN ('tenant', 'checkpoint', 'bookmark', 'set_bookmark',
                                             'empty_schema')
                    OR pg_catalog.has_function_privilege(role.exec, function.oid, 'EXECUTE'))
    FROM role
    JOIN pg_catalog.pg_proc AS function
      ON function.pronamespace = to_regnamespace('harvestd_api')
    UNION ALL
    SELECT 'rights on the schema harvestd',
           pg_catalog.has_schema_privilege(role.daemon, 'harvestd', 'USAGE')
               AND (SELECT bool_and(pg_catalog.has_function_privilege(
                               role.daemon, function.oid, 'EXECUTE'))
                    FROM pg_catalog.pg_proc AS function
                    WHERE function.pronamespace = to_regnamespace('harvestd'))
    FROM role
    UNION ALL
    SELECT 'rights on ' || relation.oid::regclass,
           pg_catalog.has_table_privilege(role.daemon, relation.oid, 'SELECT')
               AND pg_catalog.has_table_privilege(role.daemon, relation.oid, 'INSERT')
               AND pg_catalog.has_table_privilege(role.daemon, relation.oid, 'UPDATE')
               AND pg_catalog.has_table_privilege(role.daemon, relation.oid, 'DELETE')
    FROM role
    JOIN pg_catalog.pg_class AS relation
      ON relation.relkind IN ('r', 'p')
     -- Partitions are reached through their parent; new ones come without rights.
     AND NOT relation.relispartition
     AND (relation.relnamespace = to_regnamespace('harvestd')
          OR relation.relnamespace = to_regnamespace('public')
             AND relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run'))
)
SELECT here.system_identifier,
       here.database_oid,
       (SELECT stored.hex FROM harvestd.installation AS stored) AS stored_hex,
       here.hex,
       session_user::text AS role,
       login.rolsuper AS superuser,
       login.rolsuper OR login.rolcreaterole AS may_create_roles,
       here.owned AS owns_database,
       (SELECT coalesce(array_agg(need.name ORDER BY need.name), '{}')
        FROM need
        WHERE need.met IS NOT TRUE) AS missing
FROM here
JOIN pg_catalog.pg_roles AS login ON login.rolname = session_user;
