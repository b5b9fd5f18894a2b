-- give_back_strays: runs of this replica whose claim's answer was lost.
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]
-- $3 fences      bigint[]   as seen when they were found to be in nobody's hand
-- -> run_no
--
-- SKIP LOCKED: a cycle waits for nobody; the next one finds what is locked now.
-- With the fence: it may have been claimed by this very replica since it was looked at.
UPDATE public.data_source_run AS run
SET status     = 'PENDING',
    replica_id = NULL,
    due_at     = now()
FROM (SELECT locked.run_no
      FROM unnest($2::bigint[], $3::bigint[]) AS stray (run_no, fence)
      JOIN public.data_source_run AS locked
        ON locked.run_no = stray.run_no AND locked.fence = stray.fence
      WHERE locked.replica_id = $1::uuid
      FOR NO KEY UPDATE OF locked SKIP LOCKED) AS free
WHERE run.run_no = free.run_no
RETURNING run.run_no;
