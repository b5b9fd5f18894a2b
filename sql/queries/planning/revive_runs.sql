-- revive_runs: rows whose configuration is back, or that another program made without an origin.
--
-- $1 run_nos  bigint[]
-- $2 origins  timestamptz[]
-- $3 covered  text[]          what counts as covered where the row had no origin; '{}' else
-- -> run_no; one missing is locked, and left to a later cycle
WITH mended AS (
    SELECT wanted.run_no, wanted.origin, wanted.covered::tstzmultirange AS covered
    FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS wanted (run_no, origin, covered)
    JOIN public.data_source_run AS run ON run.run_no = wanted.run_no
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
)
UPDATE public.data_source_run AS run
SET retired_at = NULL,
    due_at     = now(),
    not_before = '-infinity',
    origin     = coalesce(run.origin, mended.origin),
    covered    = CASE WHEN run.origin IS NULL THEN run.covered + mended.covered
                      ELSE run.covered END,
    -- with covered in one statement, so that it is no hand-set date
    last_fetched_data_date = CASE WHEN run.origin IS NULL
                                       AND NOT isempty(mended.covered)
                                  THEN upper(run.covered + mended.covered)
                                  ELSE run.last_fetched_data_date END
FROM mended
WHERE run.run_no = mended.run_no
  AND (run.retired_at IS NOT NULL OR run.origin IS NULL)
RETURNING run.run_no;
