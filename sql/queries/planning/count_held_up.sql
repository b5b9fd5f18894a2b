-- count_held_up: how many runs wait for an upstream, how many for another script, and whose rows
-- another program made since, so that they have no origin yet.
-- -> waiting, blocked, foreign_tenants
SELECT count(*) FILTER (WHERE run.status = 'WAITING') AS waiting,
       count(*) FILTER (WHERE run.blocked_by IS NOT NULL) AS blocked,
       coalesce(array_agg(DISTINCT run.tenant_id) FILTER (WHERE run.origin IS NULL), '{}')
           AS foreign_tenants
FROM public.data_source_run AS run
WHERE run.retired_at IS NULL;
