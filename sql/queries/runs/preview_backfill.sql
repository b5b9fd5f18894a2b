-- preview_backfill: what backfill_runs would have read again, by script; changes nothing.
--
-- $1 tenant_id    text           null: all
-- $2 data_source  text           null: all
-- $3 script       text           null: all
-- $4 from_at      timestamptz
-- $5 to_at        timestamptz
-- $6 sources      text[]         of the scripts that are known here, with what follows
-- $7 scripts      text[]
-- $8 widths       interval[]     of one window; null for a snapshot, which has one in all
-- -> data_source, script, runs, held (of them), before_origin (of them), seconds (source time to
--    be read again, of all), windows (null: the script is not known here), tenants,
--    rewound (of the runs: their newest data too, so that what is new comes after it)
WITH known AS (
    SELECT script.data_source, script.script, script.width
    FROM unnest($6::text[], $7::text[], $8::interval[]) AS script (data_source, script, width)
),
chosen AS (
    SELECT run.run_no, run.tenant_id, run.data_source, run.script,
           run.replica_id IS NOT NULL AS held,
           $4::timestamptz < run.origin AS before_origin,
           upper(run.covered) <= $5::timestamptz AS rewound,
           run.covered * tstzmultirange(tstzrange($4::timestamptz, $5::timestamptz))
           + CASE WHEN $4::timestamptz < run.origin
                  THEN tstzmultirange(tstzrange($4::timestamptz, run.origin))
                  ELSE '{}' END AS again
    FROM public.data_source_run AS run
    WHERE ($1::text IS NULL OR run.tenant_id = $1::text)
      AND ($2::text IS NULL OR run.data_source = $2::text)
      AND ($3::text IS NULL OR run.script = $3::text)
      AND run.retired_at IS NULL
      AND run.origin IS NOT NULL
      AND (run.covered && tstzrange($4::timestamptz, $5::timestamptz)
           OR $4::timestamptz < run.origin)
)
SELECT chosen.data_source,
       chosen.script,
       count(*) AS runs,
       count(*) FILTER (WHERE chosen.held) AS held,
       count(*) FILTER (WHERE chosen.before_origin) AS before_origin,
       count(*) FILTER (WHERE chosen.rewound) AS rewound,
       sum(piece.seconds)::float8 AS seconds,
       CASE WHEN count(known.script) = 0 THEN NULL
            WHEN count(known.width) = 0 THEN count(*)
            ELSE sum(piece.windows)::bigint END AS windows,
       count(DISTINCT chosen.tenant_id) AS tenants
FROM chosen
LEFT JOIN known ON known.data_source = chosen.data_source AND known.script = chosen.script
CROSS JOIN LATERAL (
    SELECT sum(extract(epoch FROM upper(one) - lower(one))) AS seconds,
           sum(ceil(extract(epoch FROM upper(one) - lower(one))
                    / extract(epoch FROM known.width))) AS windows
    FROM unnest(chosen.again) AS one) AS piece
GROUP BY chosen.data_source, chosen.script
ORDER BY chosen.data_source, chosen.script;
