-- set_tenant: change what is kept of a tenant.
--
-- $1 tenant_id   text
-- $2 name        text      null: leave
-- $3 sets_limit  boolean   whether runs_max is set
-- $4 runs_max    integer   1 ..; null: as the setting says
-- -> name, runs_max; no row when there is no such tenant
UPDATE public.tenant AS tenant
SET name     = coalesce($2::text, tenant.name),
    runs_max = CASE WHEN $3::boolean THEN $4::integer ELSE tenant.runs_max END
WHERE tenant.id = $1::text
RETURNING tenant.name, tenant.runs_max;
