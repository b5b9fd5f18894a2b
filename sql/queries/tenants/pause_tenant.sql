-- pause_tenant: from now on no turn of this tenant begins.
--
-- $1 tenant_id  text
-- -> paused_at, of this pause or of an earlier one that still holds
UPDATE public.tenant AS tenant
SET paused_at = coalesce(tenant.paused_at, now())
WHERE tenant.id = $1::text
RETURNING tenant.paused_at;
