-- read_overview: the whole installation in one row.
-- -> now, server_version, hex (of its roles), tenants, paused, runs (not the retired), pending,
--    running, waiting, completed, failed, blocked (whatever its status: counted there only), due
--    (not those of paused tenants), retired, rows_written,
--    lag_seconds (now less the oldest watermark; null without runs)
SELECT clock_timestamp() AS now,
       current_setting('server_version') AS server_version,
       installation.hex,
       tenant.tenants,
       tenant.paused,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL) AS runs,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NULL
                                   AND run.status = 'PENDING') AS pending,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NULL
                                   AND run.status = 'RUNNING') AS running,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NULL
                                   AND run.status = 'WAITING') AS waiting,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NULL
                                   AND run.status = 'COMPLETED') AS completed,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NULL
                                   AND run.status = 'FAILED') AS failed,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.blocked_by IS NOT NULL)
           AS blocked,
       count(run.run_no) FILTER (WHERE run.retired_at IS NULL AND run.replica_id IS NULL
                                   AND run.not_before <= now() AND run.due_at <= now()
                                   AND run.tenant_id <> ALL (tenant.asleep)) AS due,
       count(run.run_no) FILTER (WHERE run.retired_at IS NOT NULL) AS retired,
       coalesce(sum(run.rows_written), 0)::bigint AS rows_written,
       extract(epoch FROM now() - min(coalesce(run.last_fetched_data_date, run.origin))
           FILTER (WHERE run.retired_at IS NULL))::float8 AS lag_seconds
FROM harvestd.installation AS installation
CROSS JOIN (SELECT count(*) AS tenants,
                   count(known.paused_at) AS paused,
                   coalesce(array_agg(known.id) FILTER (WHERE known.paused_at IS NOT NULL), '{}')
                       AS asleep
            FROM public.tenant AS known) AS tenant
LEFT JOIN public.data_source_run AS run ON true
GROUP BY installation.hex, tenant.tenants, tenant.paused;
