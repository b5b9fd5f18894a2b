-- list_tenants: tenants with the state of their runs, the worst first.
--
-- $1 limit_rows  integer
-- -> id, name, paused, sources, runs, failed and waiting (not the blocked), blocked,
--    lag (now less the oldest watermark)
SELECT tenant.id,
       tenant.name,
       tenant.paused_at IS NOT NULL AS paused,
       (SELECT coalesce(array_agg(DISTINCT config.data_source ORDER BY config.data_source), '{}')
        FROM public.tenant_data_source_config AS config
        WHERE config.tenant_id = tenant.id) AS sources,
       count(run.run_no) AS runs,
       count(run.run_no) FILTER (WHERE run.blocked_by IS NULL AND run.status = 'FAILED')
           AS failed,
       count(run.run_no) FILTER (WHERE run.blocked_by IS NULL AND run.status = 'WAITING')
           AS waiting,
       count(run.run_no) FILTER (WHERE run.blocked_by IS NOT NULL) AS blocked,
       now() - min(coalesce(run.last_fetched_data_date, run.origin)) AS lag
FROM public.tenant AS tenant
LEFT JOIN public.data_source_run AS run
  ON run.tenant_id = tenant.id AND run.retired_at IS NULL
GROUP BY tenant.id
ORDER BY failed DESC, blocked DESC, waiting DESC, lag DESC NULLS LAST, tenant.id
LIMIT $1::integer;
