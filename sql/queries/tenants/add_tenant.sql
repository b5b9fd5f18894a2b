-- add_tenant: a tenant by its id.
--
-- $1 tenant_id  text
-- $2 name       text
-- -> id, or no row when there was one
INSERT INTO public.tenant (id, name)
VALUES ($1::text, $2::text)
ON CONFLICT (id) DO NOTHING
RETURNING id;
