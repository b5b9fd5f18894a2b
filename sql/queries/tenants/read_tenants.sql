-- read_tenants: limits and pauses of these tenants.
--
-- $1 tenant_ids  text[]   1 .. 100
-- -> tenant_id, runs_max (null: the setting), paused
SELECT tenant.id AS tenant_id,
       tenant.runs_max,
       tenant.paused_at IS NOT NULL AS paused
FROM public.tenant AS tenant
WHERE tenant.id = ANY ($1::text[])
ORDER BY tenant.id;
