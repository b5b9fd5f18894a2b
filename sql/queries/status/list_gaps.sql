-- list_gaps: source time between a run's origin and now that is not covered, the biggest first.
--
-- $1 tenant_id   text      null: all
-- $2 limit_rows  integer
-- -> tenant_id, data_source, script, from_at, to_at, seconds, live (from the watermark, or the
--    origin, to now; otherwise a hole behind it), paused, status, blocked_by, holes and live_gaps
--    (how many there are in all)
SELECT run.tenant_id,
       run.data_source,
       run.script,
       lower(gap.span) AS from_at,
       upper(gap.span) AS to_at,
       extract(epoch FROM upper(gap.span) - lower(gap.span))::float8 AS seconds,
       upper(gap.span) = now() AS live,
       tenant.paused_at IS NOT NULL AS paused,
       run.status::text AS status,
       run.blocked_by,
       count(*) FILTER (WHERE upper(gap.span) < now()) OVER () AS holes,
       count(*) FILTER (WHERE upper(gap.span) = now()) OVER () AS live_gaps
FROM public.data_source_run AS run
CROSS JOIN LATERAL unnest(
    CASE WHEN run.origin < now()
         THEN tstzmultirange(tstzrange(run.origin, now())) - run.covered
         ELSE '{}' END) AS gap (span)
LEFT JOIN public.tenant AS tenant ON tenant.id = run.tenant_id
WHERE ($1::text IS NULL OR run.tenant_id = $1::text)
  AND run.retired_at IS NULL
ORDER BY seconds DESC, run.tenant_id, run.data_source, run.script, from_at
LIMIT $2::integer;
