-- find_missing_runs_of: where run rows and configuration differ, for these tenants.
--
-- $1 sources     text[]   every script of the catalog: its data source
-- $2 scripts     text[]   and its name, same order
-- $3 tenant_ids  text[]
-- -> tenant_id, data_source, script, run_no (null: to be enrolled), retired, origin, watermark,
--    too_long
--
-- A file of its own: `$3 IS NULL OR ...` would spoil the plan of both.
SELECT configured.tenant_id,
       configured.data_source,
       wanted.script,
       run.run_no,
       run.retired_at IS NOT NULL AS retired,
       run.origin,
       -- Other programs write it, and not every date has a place in Python.
       CASE WHEN run.last_fetched_data_date IS NOT NULL
            THEN least(greatest(run.last_fetched_data_date, '0001-01-03 00:00:00+00'), now())
       END AS watermark,
       -- A longer id fits into no key with source and script, and would fail the whole page.
       octet_length(configured.tenant_id) > 2000 AS too_long
FROM (SELECT DISTINCT config.tenant_id, config.data_source
      FROM public.tenant_data_source_config AS config
      WHERE config.tenant_id = ANY ($3::text[])) AS configured
JOIN unnest($1::text[], $2::text[]) AS wanted (data_source, script)
  ON wanted.data_source = configured.data_source
LEFT JOIN public.data_source_run AS run
  ON run.tenant_id = configured.tenant_id
 AND run.data_source = configured.data_source
 AND run.script = wanted.script
WHERE run.run_no IS NULL
   OR run.retired_at IS NOT NULL
   OR run.origin IS NULL;
