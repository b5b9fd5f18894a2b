-- list_held_runs: what the database says this replica holds.
--
-- $1 replica_id  uuid
-- -> run_no, fence
SELECT run.run_no,
       run.fence
FROM public.data_source_run AS run
WHERE run.replica_id = $1::uuid
ORDER BY run.run_no;
