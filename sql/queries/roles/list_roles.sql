-- list_roles: the roles of one installation.
--
-- $1 prefix  text   harvestd_<hex>_
-- -> name
SELECT made.rolname::text AS name
FROM pg_catalog.pg_roles AS made
WHERE starts_with(made.rolname::text, $1::text)
ORDER BY made.rolname;
