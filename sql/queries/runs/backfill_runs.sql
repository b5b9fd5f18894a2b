-- backfill_runs: take a stretch of source time out of the ledgers, so that it is read again.
--
-- $1 tenant_id    text          null: all
-- $2 data_source  text          null: all
-- $3 script       text          null: all
-- $4 from_at      timestamptz   before the origin: the origin moves there
-- $5 to_at        timestamptz
-- -> data_source, script, runs, held (of them: their holders give them back)
--
-- Arithmetic on what is stored now, whatever a holder committed meanwhile.  A held run stays
-- RUNNING with a raised fence: its holder learns it and gives the run back.  A run that lacks
-- the whole stretch already is left alone.
-- last_fetched_data_date: only with covered, or the trigger for hand-set dates would fire.
-- ORDER BY: it may wait for a script's transaction; two that wait in one order never deadlock.
WITH chosen AS (
    SELECT run.run_no
    FROM public.data_source_run AS run
    WHERE ($1::text IS NULL OR run.tenant_id = $1::text)
      AND ($2::text IS NULL OR run.data_source = $2::text)
      AND ($3::text IS NULL OR run.script = $3::text)
      AND run.retired_at IS NULL
      AND run.origin IS NOT NULL
      AND (run.covered && tstzrange($4::timestamptz, $5::timestamptz)
           OR $4::timestamptz < run.origin)
    ORDER BY run.run_no
    FOR NO KEY UPDATE
),
taken AS (
    UPDATE public.data_source_run AS run
    SET covered    = run.covered
                     - tstzmultirange(tstzrange($4::timestamptz, $5::timestamptz)),
        last_fetched_data_date
                   = CASE WHEN run.covered && tstzrange($4::timestamptz, $5::timestamptz)
                          THEN upper(run.covered
                                     - tstzmultirange(tstzrange($4::timestamptz, $5::timestamptz)))
                          ELSE run.last_fetched_data_date END,
        origin     = least(run.origin, $4::timestamptz),
        due_at     = now(),
        not_before = '-infinity',
        failures   = 0,
        deaths     = 0,
        cut_at     = clock_timestamp(),
        fence      = run.fence + (run.replica_id IS NOT NULL)::integer
    FROM chosen
    WHERE run.run_no = chosen.run_no
    RETURNING run.data_source, run.script, run.replica_id IS NOT NULL AS held
)
SELECT taken.data_source,
       taken.script,
       count(*) AS runs,
       count(*) FILTER (WHERE taken.held) AS held
FROM taken
GROUP BY taken.data_source, taken.script
ORDER BY taken.data_source, taken.script;
