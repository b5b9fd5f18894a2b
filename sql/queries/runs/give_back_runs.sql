-- give_back_runs: runs held by this replica that it does not work on (any more).
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]   null: all that it holds
-- -> run_no
--
-- By holder, not by fence: somebody may have raised the fence to take the run from us.
UPDATE public.data_source_run AS run
SET status     = 'PENDING',
    replica_id = NULL,
    due_at     = now()
WHERE run.replica_id = $1::uuid
  AND ($2::bigint[] IS NULL OR run.run_no = ANY ($2::bigint[]))
RETURNING run.run_no;
