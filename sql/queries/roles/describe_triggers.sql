-- describe_triggers: harvestd's triggers on the application's tables, as the catalog has them.
--
-- $1 schema_name  text  'public', or where copies are
-- -> table, name, does (without the name of the schema), enabled (O, A, R or D)
SELECT relation.relname::text AS "table",
       trigger.tgname::text AS name,
       replace(pg_catalog.pg_get_triggerdef(trigger.oid),
               format(' ON %I.', place.nspname), ' ON ') AS does,
       trigger.tgenabled::text AS enabled
FROM pg_catalog.pg_trigger AS trigger
JOIN pg_catalog.pg_class AS relation ON relation.oid = trigger.tgrelid
JOIN pg_catalog.pg_namespace AS place ON place.oid = relation.relnamespace
WHERE place.nspname = $1::text
  AND relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
  AND starts_with(trigger.tgname, 'harvestd_')
  AND NOT trigger.tgisinternal
ORDER BY relation.relname, trigger.tgname;
