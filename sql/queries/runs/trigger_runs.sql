-- trigger_runs: a tenant's runs are due now, whatever they waited for; those held just go on.
--
-- $1 tenant_id    text
-- $2 data_source  text   null: all
-- $3 script       text   null: all
-- -> data_source, script, held
--
-- A held run is not even locked: its holder may be in the middle of a long transaction.
-- ORDER BY: two that wait in one order never deadlock.
WITH free AS (
    SELECT run.run_no
    FROM public.data_source_run AS run
    WHERE run.tenant_id = $1::text
      AND ($2::text IS NULL OR run.data_source = $2::text)
      AND ($3::text IS NULL OR run.script = $3::text)
      AND run.retired_at IS NULL
      AND run.replica_id IS NULL
    ORDER BY run.run_no
    FOR NO KEY UPDATE
),
triggered AS (
    UPDATE public.data_source_run AS run
    SET due_at     = least(run.due_at, now()),
        not_before = '-infinity',
        deaths     = 0
    FROM free
    WHERE run.run_no = free.run_no
    RETURNING run.run_no
)
SELECT run.data_source,
       run.script,
       triggered.run_no IS NULL AS held
FROM public.data_source_run AS run
LEFT JOIN triggered ON triggered.run_no = run.run_no
WHERE run.tenant_id = $1::text
  AND ($2::text IS NULL OR run.data_source = $2::text)
  AND ($3::text IS NULL OR run.script = $3::text)
  AND run.retired_at IS NULL
ORDER BY run.data_source, run.script;
