-- see_database: what migrating may build on, before there is anything of harvestd's.
-- -> version_num, role, may_create_schema, may_create_tables (in public), has_schema,
--    has_migrations
SELECT current_setting('server_version_num')::integer AS version_num,
       current_user::text AS role,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false)
           AS may_create_tables,
       to_regnamespace('harvestd') IS NOT NULL AS has_schema,
       EXISTS (SELECT FROM pg_catalog.pg_class AS relation
               WHERE relation.relnamespace = to_regnamespace('harvestd')
                 AND relation.relname = 'schema_migration') AS has_migrations;
