-- resume_tenant: a paused tenant's runs are due at once; one that is not paused is left alone.
--
-- $1 tenant_id  text
-- -> data_source, script, held, of each of its runs
--
-- not_before stays: a rate limit of the upstream knows no pause.
-- ORDER BY: it may wait for a script's transaction; two that wait in one order never deadlock.
WITH resumed AS (
    UPDATE public.tenant AS tenant
    SET paused_at = NULL
    WHERE tenant.id = $1::text
      AND tenant.paused_at IS NOT NULL
    RETURNING tenant.id
),
chosen AS (
    SELECT run.run_no
    FROM resumed
    JOIN public.data_source_run AS run ON run.tenant_id = resumed.id
    WHERE run.retired_at IS NULL
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run
)
UPDATE public.data_source_run AS run
SET due_at = least(run.due_at, now())
FROM chosen
WHERE run.run_no = chosen.run_no
RETURNING run.data_source,
          run.script,
          run.replica_id IS NOT NULL AS held;
