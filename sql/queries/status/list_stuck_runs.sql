-- list_stuck_runs: runs that do not go on by themselves, and those that nobody takes.
--
-- $1 overdue  interval   a run that is due longer than this without being started is stuck
-- -> kind ('held by the silent', 'overdue', 'failing'), runs, example (tenant/source/script)
--
-- Blocked and waiting runs say by themselves why; paused tenants are meant to stand still.
SELECT stuck.kind,
       count(*) AS runs,
       min(stuck.tenant_id || '/' || stuck.data_source || '/' || stuck.script) AS example
FROM (
    SELECT run.tenant_id, run.data_source, run.script,
           CASE WHEN run.replica_id IS NOT NULL THEN
                     CASE WHEN holder.dead_at IS NOT NULL OR holder.replica_id IS NULL
                               OR holder.heartbeat_at < clock_timestamp() - $1::interval
                          THEN 'held by the silent' END
                WHEN run.status = 'FAILED' THEN 'failing'
                WHEN run.blocked_by IS NULL AND run.not_before <= now()
                     AND run.due_at < now() - $1::interval THEN 'overdue' END AS kind
    FROM public.data_source_run AS run
    LEFT JOIN harvestd.replica AS holder ON holder.replica_id = run.replica_id
    LEFT JOIN public.tenant AS tenant ON tenant.id = run.tenant_id
    WHERE run.retired_at IS NULL
      AND tenant.paused_at IS NULL) AS stuck
WHERE stuck.kind IS NOT NULL
GROUP BY stuck.kind
ORDER BY stuck.kind;
