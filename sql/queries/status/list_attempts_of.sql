-- list_attempts_of: the attempts of a tenant's runs that the history kept, the newest first.
--
-- $1 tenant_id    text
-- $2 data_source  text      null: all
-- $3 script       text      null: all
-- $4 limit_rows   integer
-- -> data_source, script, outcome, started_at, seconds, windows, rows_written, reason, error,
--    covered_from, covered_to (of what the attempt covered, end to end)
--
-- By run, since that is what the history's index is for.
SELECT run.data_source,
       run.script,
       attempt.outcome,
       attempt.started_at,
       extract(epoch FROM attempt.ended_at - attempt.started_at)::float8 AS seconds,
       attempt.windows,
       attempt.rows_written,
       attempt.reason,
       attempt.error,
       lower(attempt.covered) AS covered_from,
       upper(attempt.covered) AS covered_to
FROM public.data_source_run AS run
CROSS JOIN LATERAL (
    SELECT kept.ended_at, kept.started_at, kept.outcome, kept.windows, kept.rows_written,
           kept.reason, kept.error, kept.covered
    FROM harvestd.run_history AS kept
    WHERE kept.run_no = run.run_no
    ORDER BY kept.ended_at DESC
    LIMIT $4::integer) AS attempt
WHERE run.tenant_id = $1::text
  AND ($2::text IS NULL OR run.data_source = $2::text)
  AND ($3::text IS NULL OR run.script = $3::text)
ORDER BY attempt.ended_at DESC, run.data_source, run.script
LIMIT $4::integer;
