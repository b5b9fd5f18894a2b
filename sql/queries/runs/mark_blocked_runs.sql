-- mark_blocked_runs: why each of these runs has to wait for another script.
--
-- $1 run_nos     bigint[]
-- $2 fences      bigint[]       as listed
-- $3 blocked_by  text[]         the script or the missing resource, spelled out
-- $4 due_at      timestamptz[]  when what they need is due; null: leave
-- -> run_no, news (whether the reason is another than before), of those that changed
--
-- Only on change, or every cycle would rewrite every blocked row.
UPDATE public.data_source_run AS run
SET blocked_by = asked.blocked_by,
    due_at     = coalesce(asked.due_at, run.due_at)
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[])
    AS asked (run_no, fence, blocked_by, due_at)
JOIN public.data_source_run AS before ON before.run_no = asked.run_no
WHERE run.run_no = asked.run_no
  AND run.fence = asked.fence
  AND run.replica_id IS NULL
  AND (run.blocked_by IS DISTINCT FROM asked.blocked_by OR run.due_at < asked.due_at)
RETURNING run.run_no, before.blocked_by IS DISTINCT FROM run.blocked_by AS news;
