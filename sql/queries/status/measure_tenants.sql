-- measure_tenants: the tenants that are worst off, for the metrics.
--
-- $1 most  integer   of each kind
-- -> tenant_id, lag_seconds (now less its oldest watermark), failing (runs that failed)
--
-- Not the paused: they are meant to stand still, and would crowd out those that are late.
WITH tenant AS MATERIALIZED (
    SELECT run.tenant_id,
           extract(epoch FROM now() - min(coalesce(run.last_fetched_data_date, run.origin)))
               ::float8 AS lag_seconds,
           count(*) FILTER (WHERE run.status = 'FAILED') AS failing
    FROM public.data_source_run AS run
    WHERE run.retired_at IS NULL
      AND run.tenant_id NOT IN (SELECT tenant.id FROM public.tenant AS tenant
                                WHERE tenant.paused_at IS NOT NULL)
    GROUP BY run.tenant_id
),
late AS (
    SELECT tenant.tenant_id, tenant.lag_seconds, tenant.failing
    FROM tenant
    ORDER BY tenant.lag_seconds DESC NULLS LAST, tenant.tenant_id
    LIMIT $1::integer
),
failing AS (
    SELECT tenant.tenant_id, tenant.lag_seconds, tenant.failing
    FROM tenant
    WHERE tenant.failing > 0
    ORDER BY tenant.failing DESC, tenant.tenant_id
    LIMIT $1::integer
)
SELECT late.tenant_id, late.lag_seconds, late.failing FROM late
UNION
SELECT failing.tenant_id, failing.lag_seconds, failing.failing FROM failing
ORDER BY tenant_id;
