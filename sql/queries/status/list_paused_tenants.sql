-- list_paused_tenants: of whom nothing runs because somebody said so.
-- -> id
SELECT tenant.id
FROM public.tenant AS tenant
WHERE tenant.paused_at IS NOT NULL
ORDER BY tenant.id
LIMIT 1000;
