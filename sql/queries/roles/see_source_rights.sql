-- see_source_rights: what the owner of a data source's schema lacks that we may grant.
--
-- $1 role  text
-- -> usage (of harvestd_api), connect (to this database)
SELECT NOT pg_catalog.has_schema_privilege($1::text::name, 'harvestd_api', 'USAGE') AS usage,
       NOT pg_catalog.has_database_privilege($1::text::name, base.oid, 'CONNECT')
           AND pg_catalog.has_database_privilege(base.oid, 'CONNECT WITH GRANT OPTION') AS connect
FROM pg_catalog.pg_database AS base
WHERE base.datname = current_database();
