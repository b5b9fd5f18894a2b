-- list_run_names: which scripts have runs, of any tenant, for a name given without one.
-- -> data_source, script
SELECT DISTINCT run.data_source,
       run.script
FROM public.data_source_run AS run
ORDER BY run.data_source, run.script
LIMIT 10000;
