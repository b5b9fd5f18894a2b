-- give_back_strays: runs of this replica whose claim's answer was lost.
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]
-- $3 fences      bigint[]   as seen when they were found to be in nobody's hand
-- -> run_no
--
-- With the fence: it may have been claimed by this very replica since it was looked at.
UPDATE public.data_source_run AS run
SET status     = 'PENDING',
    replica_id = NULL,
    due_at     = now()
FROM unnest($2::bigint[], $3::bigint[]) AS stray (run_no, fence)
WHERE run.run_no = stray.run_no
  AND run.fence = stray.fence
  AND run.replica_id = $1::uuid
RETURNING run.run_no;
