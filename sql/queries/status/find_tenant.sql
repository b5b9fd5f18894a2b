-- find_tenant: one tenant by its id.
--
-- $1 tenant_id  text
-- -> id, name, paused, runs_max (null: the setting)
SELECT tenant.id,
       tenant.name,
       tenant.paused_at IS NOT NULL AS paused,
       tenant.runs_max
FROM public.tenant AS tenant
WHERE tenant.id = $1::text;
