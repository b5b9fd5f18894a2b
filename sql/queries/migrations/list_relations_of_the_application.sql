-- list_relations_of_the_application: what may be one of the three tables, also under Prisma's
-- own spelling ("DataSourceRun"), and the enum type.
-- -> name, kind (pg_class.relkind; 'enum' and 'type' for a type), owner, mine
SELECT relation.relname::text AS name,
       relation.relkind::text AS kind,
       pg_catalog.pg_get_userbyid(relation.relowner)::text AS owner,
       pg_catalog.pg_has_role(relation.relowner, 'USAGE') AS mine
FROM pg_catalog.pg_class AS relation
WHERE relation.relnamespace = to_regnamespace('public')
  AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND lower(replace(relation.relname, '_', ''))
      IN ('tenant', 'tenantdatasourceconfig', 'datasourcerun')
UNION ALL
SELECT kind.typname::text,
       CASE kind.typtype WHEN 'e' THEN 'enum' ELSE 'type' END,
       pg_catalog.pg_get_userbyid(kind.typowner)::text,
       pg_catalog.pg_has_role(kind.typowner, 'USAGE')
FROM pg_catalog.pg_type AS kind
WHERE kind.typnamespace = to_regnamespace('public')
  AND kind.typname = 'DataSourceRunStatus'
ORDER BY name;
