-- read_tenant_runs: every run of these tenants, with what decides whether it is ready.
--
-- $1 tenant_ids  text[]        1 .. 100
-- $2 began       timestamptz   the cycle's beginning, as in list_due_runs
-- $3 forced_at   timestamptz
-- -> tenant_id, data_source, script, run_no, fence, status, due_at, blocked_by, held,
--    suspect (its last holder died: it may be what kills processes), due (by the rules of
--    list_due_runs)
--
-- due_at: within the years that Python knows.
SELECT run.tenant_id,
       run.data_source,
       run.script,
       run.run_no,
       run.fence,
       run.status::text AS status,
       least(greatest(run.due_at, 'epoch'), '9999-12-29 00:00:00+00') AS due_at,
       run.blocked_by,
       run.replica_id IS NOT NULL AS held,
       run.deaths > 0 AS suspect,
       run.origin IS NOT NULL
           AND run.not_before <= $2::timestamptz
           AND (run.status <> 'RUNNING' OR run.replica_id IS NULL)
           AND (run.fence = 0 OR run.started_at < $2::timestamptz)
           AND (run.due_at <= $2::timestamptz
                OR run.fence = 0
                OR run.started_at < $3::timestamptz) AS due
FROM public.data_source_run AS run
WHERE run.tenant_id = ANY ($1::text[])
  AND run.retired_at IS NULL
ORDER BY run.tenant_id, run.data_source, run.script;
