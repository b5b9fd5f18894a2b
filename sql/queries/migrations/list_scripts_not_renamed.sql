-- list_scripts_not_renamed: adopted runs whose script still has a file's ending, because the
-- name without it was taken.
-- -> tenant_id, data_source, script
SELECT run.tenant_id,
       run.data_source,
       run.script
FROM public.data_source_run AS run
WHERE run.script ~ '\.(ts|js)$'
ORDER BY run.tenant_id, run.data_source, run.script;
