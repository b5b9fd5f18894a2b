-- see_schema_owner: whose a schema is.
--
-- $1 schema_name  text
-- -> owner, or no row when there is no such schema
SELECT pg_catalog.pg_get_userbyid(namespace.nspowner)::text AS owner
FROM pg_catalog.pg_namespace AS namespace
WHERE namespace.nspname = $1::text;
