-- hold_run: wait for a run's row, as long as the session's lock_timeout lets us.
--
-- $1 run_no  bigint
-- -> run_no
SELECT run.run_no
FROM public.data_source_run AS run
WHERE run.run_no = $1::bigint
FOR NO KEY UPDATE;
