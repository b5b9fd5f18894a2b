-- count_held_up: how many runs wait for an upstream, and how many for another script.
-- -> waiting, blocked
SELECT count(*) FILTER (WHERE run.status = 'WAITING') AS waiting,
       count(*) FILTER (WHERE run.blocked_by IS NOT NULL) AS blocked
FROM public.data_source_run AS run
WHERE run.retired_at IS NULL;
