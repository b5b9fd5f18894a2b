-- retire_runs: runs whose configuration is gone are never due; ledger and status stay.
-- -> run_no, tenant_id, data_source, script
--
-- Only this fact of the database retires a run, never a replica's lack of a plugin.
-- A run under way keeps its row; its holder learns from the fence that it is over.
UPDATE public.data_source_run AS run
SET retired_at = now(),
    blocked_by = NULL,
    fence      = run.fence + (run.replica_id IS NOT NULL)::integer
WHERE run.retired_at IS NULL
  AND NOT EXISTS (SELECT FROM public.tenant_data_source_config AS config
                  WHERE config.tenant_id = run.tenant_id
                    AND config.data_source = run.data_source)
RETURNING run.run_no, run.tenant_id, run.data_source, run.script;
