-- list_tenant_ids: every tenant, to count how many are at home with each replica.
-- -> id
SELECT tenant.id
FROM public.tenant AS tenant
ORDER BY tenant.id;
