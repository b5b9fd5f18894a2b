-- measure_scripts: how far behind each script is over all tenants, for the metrics.
-- -> data_source, script, lag_seconds (now less the oldest watermark), gapped (runs with a hole
--    behind their watermark), gap_seconds (the holes of all of them together), failed, stopped
--    (failed, and not tried again by itself), waiting, blocked
--
-- Not those of paused tenants: they are meant to stand still, and would alert for ever.
-- The comparison first: to cut multiranges is dear, and hardly any run has a hole.
SELECT run.data_source,
       run.script,
       extract(epoch FROM now() - min(coalesce(run.last_fetched_data_date, run.origin)))::float8
           AS lag_seconds,
       count(hole.seconds) AS gapped,
       coalesce(sum(hole.seconds), 0)::float8 AS gap_seconds,
       count(*) FILTER (WHERE run.status = 'FAILED') AS failed,
       count(*) FILTER (WHERE run.not_before = 'infinity') AS stopped,
       count(*) FILTER (WHERE run.status = 'WAITING') AS waiting,
       count(*) FILTER (WHERE run.blocked_by IS NOT NULL) AS blocked
FROM public.data_source_run AS run
LEFT JOIN LATERAL (
    SELECT sum(extract(epoch FROM upper(missing.span) - lower(missing.span))) AS seconds
    FROM unnest(tstzmultirange(tstzrange(run.origin, upper(run.covered))) - run.covered)
        AS missing (span)
) AS hole
  ON NOT isempty(run.covered)
 AND run.origin < lower(run.covered)
  OR run.covered <> tstzmultirange(tstzrange(lower(run.covered), upper(run.covered)))
WHERE run.retired_at IS NULL
  AND run.tenant_id NOT IN (SELECT tenant.id FROM public.tenant AS tenant
                            WHERE tenant.paused_at IS NOT NULL)
GROUP BY run.data_source, run.script
ORDER BY run.data_source, run.script;
