-- list_objects_of_others: what lies in a schema without belonging to its role.
--
-- $1 schema_name  text
-- $2 role         text
-- -> kind (the word after ALTER), name (as ALTER takes it)
--
-- A clone or a restored dump brings them.  Indexes and the sequences of columns follow their
-- table; what is of no kind listed here is refused by the inspection later.
WITH place AS (
    SELECT namespace.oid
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname = $1::text
)
SELECT CASE relation.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
       relation.oid::regclass::text AS name
FROM place
JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = place.oid
WHERE relation.relkind IN ('r', 'p', 'v', 'S')
  AND pg_catalog.pg_get_userbyid(relation.relowner) <> $2::text
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS dependency
                  WHERE dependency.classid = 'pg_catalog.pg_class'::regclass
                    AND dependency.objid = relation.oid
                    AND dependency.refclassid = 'pg_catalog.pg_class'::regclass
                    AND dependency.deptype IN ('a', 'i')
                    AND relation.relkind = 'S')
UNION ALL
SELECT 'TYPE', kind.oid::regtype::text
FROM place
JOIN pg_catalog.pg_type AS kind ON kind.typnamespace = place.oid
WHERE kind.typtype IN ('e', 'd')
  AND pg_catalog.pg_get_userbyid(kind.typowner) <> $2::text
ORDER BY kind, name;
