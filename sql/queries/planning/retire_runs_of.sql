-- retire_runs_of: as retire_runs, for these tenants.
--
-- $1 tenant_ids  text[]
-- -> run_no, tenant_id, data_source, script
UPDATE public.data_source_run AS run
SET retired_at = now(),
    blocked_by = NULL,
    fence      = run.fence + (run.replica_id IS NOT NULL)::integer
WHERE run.tenant_id = ANY ($1::text[])
  AND run.retired_at IS NULL
  AND NOT EXISTS (SELECT FROM public.tenant_data_source_config AS config
                  WHERE config.tenant_id = run.tenant_id
                    AND config.data_source = run.data_source)
RETURNING run.run_no, run.tenant_id, run.data_source, run.script;
