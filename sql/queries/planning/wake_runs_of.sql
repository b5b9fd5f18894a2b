-- wake_runs_of: a new configuration ends waiting and backoff at once.
--
-- $1 tenant_ids  text[]
-- $2 changed_ats timestamptz[]  a run that started since has seen it; 'infinity': none has
-- $3 again       boolean[]      asked again, since a run was under way or locked
-- -> tenant_id, asked_at: of those with a run that is under way or locked, to be asked again
--
-- One under way may have read the old values, and ends after this.  Or the new ones: if its holder
-- died, that death counts, unless it was the one that stopped it.
WITH meant AS (
    SELECT run.run_no, run.tenant_id, changed.again
    FROM unnest($1::text[], $2::timestamptz[], $3::boolean[]) AS changed (tenant_id, at, again)
    JOIN public.data_source_run AS run
      ON run.tenant_id = changed.tenant_id AND run.started_at < changed.at
    WHERE run.retired_at IS NULL
      AND (run.replica_id IS NOT NULL OR run.failures > 0 OR run.not_before > now()
           OR run.blocked_by IS NOT NULL OR run.status = 'WAITING' OR run.deaths > 0)
),
free AS (
    SELECT run.run_no, meant.again
    FROM meant
    JOIN public.data_source_run AS run ON run.run_no = meant.run_no
    WHERE run.replica_id IS NULL
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
woken AS (
    UPDATE public.data_source_run AS run
    SET due_at     = least(run.due_at, now()),
        not_before = '-infinity',
        failures   = 0,
        deaths     = CASE WHEN free.again AND run.status <> 'FAILED' THEN run.deaths ELSE 0 END
    FROM free
    WHERE run.run_no = free.run_no
    RETURNING run.run_no
)
SELECT DISTINCT meant.tenant_id, now() AS asked_at
FROM meant
LEFT JOIN woken ON woken.run_no = meant.run_no
WHERE woken.run_no IS NULL
ORDER BY meant.tenant_id;
