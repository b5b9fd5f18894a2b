-- wake_runs_of: a new configuration ends waiting and backoff at once.
--
-- $1 tenant_ids  text[]
-- -> run_no
UPDATE public.data_source_run AS run
SET due_at     = least(run.due_at, now()),
    not_before = '-infinity',
    failures   = 0,
    status     = CASE WHEN run.status = 'WAITING' THEN 'PENDING'::public."DataSourceRunStatus"
                      ELSE run.status END
WHERE run.tenant_id = ANY ($1::text[])
  AND run.retired_at IS NULL
  AND run.replica_id IS NULL
  AND (run.failures > 0 OR run.not_before > now() OR run.blocked_by IS NOT NULL
       OR run.status = 'WAITING')
RETURNING run.run_no;
