-- list_tenant_ids_like: ids among which a misspelt one is looked for, the nearest in length first.
--
-- $1 tenant_id  text
-- -> id
SELECT tenant.id
FROM public.tenant AS tenant
ORDER BY abs(length(tenant.id) - length($1::text)), tenant.id
LIMIT 1000;
