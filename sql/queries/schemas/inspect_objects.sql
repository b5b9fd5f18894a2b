-- inspect_objects: everything in a schema, and everything its role owns in this database.
--
-- $1 schema_name  text
-- $2 role         text
-- -> kind, name, owner (null where the kind has none we look at), inside (the schema),
--    words (to be looked for in the file)
WITH place AS (
    SELECT namespace.oid
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname = $1::text
),
found AS (
    SELECT owned.classid, owned.objid
    FROM pg_catalog.pg_shdepend AS owned
    JOIN pg_catalog.pg_roles AS role
      ON owned.refclassid = 'pg_catalog.pg_authid'::regclass AND owned.refobjid = role.oid
    JOIN pg_catalog.pg_database AS base ON base.oid = owned.dbid
    WHERE role.rolname = $2::text
      AND base.datname = current_database()
      AND owned.deptype = 'o'
    UNION
    SELECT inside.classid, inside.objid
    FROM pg_catalog.pg_depend AS inside
    JOIN place ON place.oid = inside.refobjid
    WHERE inside.refclassid = 'pg_catalog.pg_namespace'::regclass
    UNION
    -- A cast has neither owner nor schema, and runs wherever its type is used.
    SELECT 'pg_catalog.pg_cast'::regclass, conversion.oid
    FROM pg_catalog.pg_cast AS conversion
    JOIN pg_catalog.pg_type AS kind ON kind.oid IN (conversion.castsource, conversion.casttarget)
    JOIN place ON place.oid = kind.typnamespace
)
SELECT CASE kind.typtype WHEN 'e' THEN 'enum type' WHEN 'd' THEN 'domain'
                         WHEN 'c' THEN 'composite type' WHEN 'r' THEN 'range type'
                         ELSE identity.type END AS kind,
       identity.identity AS name,
       pg_catalog.pg_get_userbyid(coalesce(relation.relowner, kind.typowner))::text AS owner,
       found.classid = 'pg_catalog.pg_cast'::regclass
           OR identity.schema IS NOT DISTINCT FROM quote_ident($1::text) AS inside,
       ARRAY[coalesce(relation.relname::text, kind.typname::text, identity.name,
                      identity.identity)] AS words
FROM found
CROSS JOIN LATERAL pg_catalog.pg_identify_object(found.classid, found.objid, 0) AS identity
LEFT JOIN pg_catalog.pg_class AS relation
  ON found.classid = 'pg_catalog.pg_class'::regclass AND relation.oid = found.objid
LEFT JOIN pg_catalog.pg_type AS kind
  ON found.classid = 'pg_catalog.pg_type'::regclass AND kind.oid = found.objid
-- Default privileges are among the grants; the schema itself is what all this is about.
WHERE found.classid <> 'pg_catalog.pg_default_acl'::regclass
  AND NOT (found.classid = 'pg_catalog.pg_namespace'::regclass
           AND found.objid = (SELECT place.oid FROM place))
ORDER BY kind, name;
