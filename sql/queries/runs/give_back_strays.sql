-- give_back_strays: runs of this replica whose claim's answer was lost, or whose end could not
-- be recorded.
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]
-- $3 fences      bigint[]   as seen when they were found to be in nobody's hand
-- -> run_no, due (whether it is due at once)
--
-- The first in a row costs nothing; then it backs off as after failures, from two minutes to an
-- hour: where no end can be recorded the script would be run at each tick, for nothing.
-- SKIP LOCKED: a cycle waits for nobody; the next one finds what is locked now.
-- With the fence: it may have been claimed by this very replica since it was looked at.
UPDATE public.data_source_run AS run
SET status     = 'PENDING',
    replica_id = NULL,
    failures   = least(run.failures, 1000000) + 1,
    due_at     = now() + CASE WHEN run.failures = 0 THEN interval '0'
                              ELSE least(interval '1 minute' * (2 ^ least(run.failures, 16)),
                                         interval '1 hour') * (1.2 - 0.4 * random()) END
FROM (SELECT locked.run_no
      FROM unnest($2::bigint[], $3::bigint[]) AS stray (run_no, fence)
      JOIN public.data_source_run AS locked
        ON locked.run_no = stray.run_no AND locked.fence = stray.fence
      WHERE locked.replica_id = $1::uuid
      FOR NO KEY UPDATE OF locked SKIP LOCKED) AS free
WHERE run.run_no = free.run_no
RETURNING run.run_no, run.due_at <= now() AS due;
