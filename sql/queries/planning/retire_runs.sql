-- retire_runs: runs whose configuration is gone are never due; ledger and status stay.
-- -> run_no, tenant_id, retired (false: its row is locked by a script's open transaction)
--
-- Only this fact of the database retires a run, never a replica's lack of a plugin.
-- SKIP LOCKED: a tick never waits for a script; whoever holds the run cancels it, and a later
-- cycle retires it.  A run under way keeps its row; its holder learns from the fence.
WITH gone AS (
    SELECT run.run_no, run.tenant_id
    FROM public.data_source_run AS run
    WHERE run.retired_at IS NULL
      AND NOT EXISTS (SELECT FROM public.tenant_data_source_config AS config
                      WHERE config.tenant_id = run.tenant_id
                        AND config.data_source = run.data_source)
),
free AS (
    SELECT run.run_no
    FROM gone
    JOIN public.data_source_run AS run ON run.run_no = gone.run_no
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
retired AS (
    UPDATE public.data_source_run AS run
    SET retired_at = now(),
        blocked_by = NULL,
        fence      = run.fence + (run.replica_id IS NOT NULL)::integer
    FROM free
    WHERE run.run_no = free.run_no
    RETURNING run.run_no
)
SELECT gone.run_no, gone.tenant_id, retired.run_no IS NOT NULL AS retired
FROM gone
LEFT JOIN retired ON retired.run_no = gone.run_no
ORDER BY gone.run_no;
