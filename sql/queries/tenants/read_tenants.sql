-- read_tenants: the tenants of these runs, with their limits and pauses.
--
-- $1 run_nos  bigint[]   1 .. 100, one of each tenant
-- -> tenant_id, run_no, runs_max (null: the setting), paused
SELECT tenant.id AS tenant_id,
       run.run_no,
       tenant.runs_max,
       tenant.paused_at IS NOT NULL AS paused
FROM public.data_source_run AS run
JOIN public.tenant AS tenant ON tenant.id = run.tenant_id
WHERE run.run_no = ANY ($1::bigint[]);
