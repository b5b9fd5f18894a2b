-- list_runs_of: every run of a tenant, the retired ones too, with what it waits for.
--
-- $1 tenant_id  text
-- -> data_source, script, status, retired, blocked_by, reason, error, failures,
--    due_seconds (until it is due; negative: overdue), waits_until, covered_from, covered_to,
--    lag_seconds (now less the watermark), rows_written, started_at (null: never ran), seconds
--    (of the last attempt), held_by (host and pid, or the id of one that nobody knows),
--    silent_seconds (since its heartbeat), lease_seconds (of its holder, where that says it),
--    stopped (it is not tried again by itself)
SELECT run.data_source,
       run.script,
       run.status::text AS status,
       run.retired_at IS NOT NULL AS retired,
       run.blocked_by,
       run.reason,
       run.error,
       run.failures,
       extract(epoch FROM run.due_at - now())::float8 AS due_seconds,
       CASE WHEN isfinite(run.not_before)
            THEN least(greatest(run.not_before, 'epoch'), '9999-12-29 00:00:00+00')
            END AS waits_until,
       lower(run.covered) AS covered_from,
       upper(run.covered) AS covered_to,
       extract(epoch FROM now() - coalesce(run.last_fetched_data_date, run.origin))::float8
           AS lag_seconds,
       run.rows_written,
       CASE WHEN run.fence > 0
            THEN least(greatest(run.started_at, '0001-01-03 00:00:00+00'), '9999-12-29 00:00:00+00')
            END AS started_at,
       CASE WHEN run.fence > 0 AND run.replica_id IS NULL
            THEN extract(epoch FROM run.completed_at - run.started_at)::float8 END AS seconds,
       coalesce(replica.host || ' pid ' || replica.pid, 'replica ' || run.replica_id) AS held_by,
       extract(epoch FROM clock_timestamp() - replica.heartbeat_at)::float8 AS silent_seconds,
       extract(epoch FROM replica.lease)::float8 AS lease_seconds,
       run.not_before = 'infinity' AS stopped
FROM public.data_source_run AS run
LEFT JOIN harvestd.replica AS replica ON replica.replica_id = run.replica_id
WHERE run.tenant_id = $1::text
ORDER BY run.data_source, run.script
LIMIT 10000;
