-- find_tenant: one tenant by its id.
--
-- $1 tenant_id  text
-- -> id, name, paused
SELECT tenant.id,
       tenant.name,
       tenant.paused_at IS NOT NULL AS paused
FROM public.tenant AS tenant
WHERE tenant.id = $1::text;
