-- enrol_runs: make the rows of runs that are configured and missing.
--
-- $1 tenant_ids  text[]
-- $2 sources     text[]
-- $3 scripts     text[]
-- $4 origins     timestamptz[]
-- -> run_no
INSERT INTO public.data_source_run (tenant_id, data_source, script, status, origin)
SELECT missing.tenant_id, missing.data_source, missing.script, 'PENDING', missing.origin
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS missing (tenant_id, data_source, script, origin)
WHERE EXISTS (SELECT FROM public.tenant_data_source_config AS config
              WHERE config.tenant_id = missing.tenant_id
                AND config.data_source = missing.data_source)
ON CONFLICT (tenant_id, data_source, script) DO NOTHING
RETURNING run_no;
