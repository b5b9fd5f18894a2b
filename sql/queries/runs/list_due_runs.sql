-- list_due_runs: which tenants have runs that may be claimed now, and what else a cycle looks at.
--
-- $1 began       timestamptz   the cycle's beginning
-- $2 forced_at   timestamptz   every run that last started before it is due
-- $3 replica_id  uuid          what the database says it holds is listed too
-- $4 limit_rows  bigint        null: all
-- -> tenant_id, kind ('due'; 'held' by this replica; 'orphaned': held by one that nobody knows;
--    'foreign': made by another program, and not adopted yet; 'ahead' of this clock: see
--    mend_dates_ahead), runs (how many), run_no (any of them), run_nos and fences (of the held),
--    the longest overdue tenant first
--
-- Those of paused tenants are not due; who they are is asked once, after all else.
-- One scan, no index: nothing that changes is indexed, so that updates stay HOT, and
-- 500,000 rows take 0.06 to 0.16 s (research: perf 2).
SELECT listed.tenant_id,
       listed.kind,
       count(*) AS runs,
       min(listed.run_no) AS run_no,
       array_agg(listed.run_no) FILTER (WHERE listed.kind = 'held') AS run_nos,
       array_agg(listed.fence) FILTER (WHERE listed.kind = 'held') AS fences
FROM (SELECT run.tenant_id,
             run.run_no,
             run.fence,
             run.due_at,
             CASE WHEN run.replica_id = $3::uuid THEN 'held'
                  WHEN run.origin IS NULL THEN 'foreign'
                  WHEN run.replica_id IS NOT NULL THEN 'orphaned'
                  WHEN greatest(run.started_at, run.completed_at) > now() + interval '1 minute'
                      THEN 'ahead'
                  ELSE 'due' END AS kind
      FROM public.data_source_run AS run
      WHERE run.replica_id = $3::uuid
         OR (run.retired_at IS NULL
             AND (run.origin IS NULL
                  OR (run.replica_id IS NULL
                      AND greatest(run.started_at, run.completed_at)
                          > now() + interval '1 minute')
                  OR (run.not_before <= $1::timestamptz
                      AND (run.status <> 'RUNNING' OR run.replica_id IS NULL)
                      AND (run.fence = 0 OR run.started_at < $1::timestamptz)
                      AND (run.due_at <= $1::timestamptz
                           OR run.fence = 0
                           OR run.started_at < $2::timestamptz)
                      AND run.tenant_id NOT IN (
                          SELECT tenant.id FROM public.tenant AS tenant
                          WHERE tenant.paused_at IS NOT NULL))))
         OR (run.replica_id IS NOT NULL
             AND run.replica_id NOT IN (
                 SELECT replica.replica_id FROM harvestd.replica AS replica))
     ) AS listed
GROUP BY listed.tenant_id, listed.kind
ORDER BY min(listed.due_at), listed.tenant_id
LIMIT $4::bigint;
