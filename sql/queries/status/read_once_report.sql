-- read_once_report: how the runs of a forced cycle ended, those in trouble first.
--
-- $1 since  timestamptz   the cycle's beginning
-- -> tenant_id, data_source, script, status, blocked_by, reason, error,
--    waits_until (of one that WAITS; null: for another configuration), windows (null: an idle
--    success, which keeps no history), rows_written,
--    seconds (of the attempts since then), covered_from, covered_to
SELECT run.tenant_id,
       run.data_source,
       run.script,
       run.status::text AS status,
       run.blocked_by,
       run.reason,
       run.error,
       CASE WHEN isfinite(run.not_before)
            THEN least(greatest(run.not_before, 'epoch'), '9999-12-29 00:00:00+00')
            END AS waits_until,
       sum(attempt.windows)::integer AS windows,
       coalesce(sum(attempt.rows_written), 0)::bigint AS rows_written,
       CASE WHEN run.started_at >= $1::timestamptz AND run.replica_id IS NULL
            THEN extract(epoch FROM run.completed_at - run.started_at)::float8 END AS seconds,
       lower(run.covered) AS covered_from,
       upper(run.covered) AS covered_to
FROM public.data_source_run AS run
LEFT JOIN harvestd.run_history AS attempt
  ON attempt.run_no = run.run_no AND attempt.ended_at >= $1::timestamptz
WHERE run.retired_at IS NULL
GROUP BY run.run_no, run.tenant_id, run.data_source, run.script, run.status, run.blocked_by,
         run.reason, run.error, run.not_before, run.covered, run.started_at, run.completed_at,
         run.replica_id
ORDER BY (run.status IN ('FAILED', 'WAITING') OR run.blocked_by IS NOT NULL) DESC,
         run.tenant_id, run.data_source, run.script
LIMIT 1000;
