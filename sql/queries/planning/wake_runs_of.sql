-- wake_runs_of: a new configuration ends waiting and backoff at once.
--
-- $1 tenant_ids  text[]
-- $2 changed_ats timestamptz[]  a run that started since has seen it; 'infinity': none has
-- -> run_no
UPDATE public.data_source_run AS run
SET due_at     = least(run.due_at, now()),
    not_before = '-infinity',
    failures   = 0,
    deaths     = 0,
    status     = CASE WHEN run.status = 'WAITING' THEN 'PENDING'::public."DataSourceRunStatus"
                      ELSE run.status END
FROM (SELECT held_up.run_no
      FROM unnest($1::text[], $2::timestamptz[]) AS changed (tenant_id, at)
      JOIN public.data_source_run AS held_up
        ON held_up.tenant_id = changed.tenant_id AND held_up.started_at < changed.at
      WHERE held_up.retired_at IS NULL
        AND held_up.replica_id IS NULL
        AND (held_up.failures > 0 OR held_up.not_before > now()
             OR held_up.blocked_by IS NOT NULL OR held_up.status = 'WAITING')
      FOR NO KEY UPDATE OF held_up SKIP LOCKED) AS free
WHERE run.run_no = free.run_no
RETURNING run.run_no;
