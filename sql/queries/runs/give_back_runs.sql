-- give_back_runs: runs held by this replica that it does not work on (any more).
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]   null: all that it holds
-- -> run_no
--
-- By holder, not by fence: somebody may have raised the fence to take the run from us.
-- ORDER BY: it may wait for an operator's transaction; two that wait in one order never deadlock.
UPDATE public.data_source_run AS run
SET status     = 'PENDING',
    replica_id = NULL,
    due_at     = now()
FROM (SELECT locked.run_no
      FROM public.data_source_run AS locked
      WHERE locked.replica_id = $1::uuid
        AND ($2::bigint[] IS NULL OR locked.run_no = ANY ($2::bigint[]))
      ORDER BY locked.run_no
      FOR NO KEY UPDATE) AS held
WHERE run.run_no = held.run_no
RETURNING run.run_no;
