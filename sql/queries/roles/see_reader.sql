-- see_reader: what there is to know of a role that is to read, or not to.
--
-- $1 role    text
-- $2 reader  text
-- -> sees_all (no policy holds for it), reads; no row when there is no such role
SELECT role.rolsuper OR role.rolbypassrls AS sees_all,
       pg_catalog.pg_has_role(role.oid, reader.oid, 'USAGE') AS reads
FROM pg_catalog.pg_roles AS role
CROSS JOIN pg_catalog.pg_roles AS reader
WHERE role.rolname = $1::text
  AND reader.rolname = $2::text;
