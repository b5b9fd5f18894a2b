-- sum_up_runs: what there was to verify, and what is known to be missing.
--
-- $1 tenant_id  text   null: all
-- -> now, runs, attempts (of the history), bindings, holes (source time behind the newest data
--    that is not covered), hole_seconds (of all together), gapped (runs that have one)
--
-- Holes of retired runs are not missing: nobody wants them read.
-- least: a ledger before its origin is found elsewhere, and must not end this.
SELECT now() AS now,
       count(*) AS runs,
       (SELECT count(*) FROM harvestd.run_history AS kept
        WHERE $1::text IS NULL OR kept.tenant_id = $1::text) AS attempts,
       (SELECT count(*) FROM harvestd.binding AS binding
        WHERE $1::text IS NULL OR binding.tenant_id = $1::text) AS bindings,
       coalesce(sum(hole.holes), 0)::bigint AS holes,
       coalesce(sum(hole.seconds), 0)::float8 AS hole_seconds,
       count(*) FILTER (WHERE hole.holes > 0) AS gapped
FROM public.data_source_run AS run
LEFT JOIN LATERAL (
    SELECT count(*) AS holes,
           sum(extract(epoch FROM upper(missing.span) - lower(missing.span))) AS seconds
    FROM unnest(tstzmultirange(tstzrange(least(run.origin, upper(run.covered)),
                                         upper(run.covered))) - run.covered) AS missing (span)
) AS hole
  ON run.retired_at IS NULL
 AND NOT isempty(run.covered)
 AND (run.origin < lower(run.covered)
      OR run.covered <> tstzmultirange(tstzrange(lower(run.covered), upper(run.covered))))
WHERE $1::text IS NULL OR run.tenant_id = $1::text;
