-- breaking: no
-- Every cycle asks who is paused: of 100,000 tenants without reading them all.  It changes with a
-- pause only, so that other updates of a tenant's row stay HOT.

CREATE INDEX tenant_paused_idx ON public.tenant (id) WHERE paused_at IS NOT NULL;
