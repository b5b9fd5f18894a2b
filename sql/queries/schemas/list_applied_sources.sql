-- list_applied_sources: the data sources whose schema.sql was applied and is there.
-- -> data_source
SELECT applied.data_source
FROM harvestd.source_schema AS applied
JOIN pg_catalog.pg_namespace AS namespace ON namespace.nspname = applied.data_source
ORDER BY applied.data_source;
