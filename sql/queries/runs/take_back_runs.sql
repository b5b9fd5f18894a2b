-- take_back_runs: whoever works on a tenant's runs, or is about to, gives them up.
--
-- $1 tenant_id  text
-- -> data_source, script, held (an attempt was under way)
--
-- A held run stays RUNNING with a raised fence: its holder learns it and gives the run back.
-- Those in nobody's hand too: a turn that was read before could still claim them.  One that
-- never ran keeps its fence of 0, which says so.
-- ORDER BY: it may wait for a script's transaction; two that wait in one order never deadlock.
UPDATE public.data_source_run AS run
SET fence = run.fence + 1
FROM (SELECT locked.run_no
      FROM public.data_source_run AS locked
      WHERE locked.tenant_id = $1::text
        AND locked.retired_at IS NULL
        AND locked.fence > 0
      ORDER BY locked.run_no
      FOR NO KEY UPDATE) AS taken
WHERE run.run_no = taken.run_no
RETURNING run.data_source,
          run.script,
          run.replica_id IS NOT NULL AS held;
