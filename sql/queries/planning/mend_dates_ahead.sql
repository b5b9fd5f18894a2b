-- mend_dates_ahead: runs that started or ended in the future did so before this clock was set back.
-- -> run_no
--
-- Every other date of theirs was made by that clock too, so they are due now, unless they are
-- held for good.  What they covered beyond now nobody has read: it leaves the ledger, and the
-- attempts of that time do not vouch for it (cut_at).
-- A minute is let pass: so long it may wait.
UPDATE public.data_source_run AS run
SET started_at   = least(run.started_at, now()),
    completed_at = least(run.completed_at, now()),
    due_at       = now(),
    not_before   = CASE WHEN run.not_before = 'infinity' THEN run.not_before
                        ELSE '-infinity' END,
    covered      = run.covered * free.past,
    last_fetched_data_date = CASE WHEN run.covered <@ free.past THEN run.last_fetched_data_date
                                  ELSE upper(run.covered * free.past) END,
    cut_at       = CASE WHEN run.covered <@ free.past THEN run.cut_at
                        ELSE greatest(run.started_at, run.completed_at) END,
    fence        = run.fence + 1
FROM (SELECT ahead.run_no,
             tstzmultirange(tstzrange(NULL, date_trunc('milliseconds', now()))) AS past
      FROM public.data_source_run AS ahead
      WHERE greatest(ahead.started_at, ahead.completed_at) > now() + interval '1 minute'
        AND ahead.replica_id IS NULL
        AND ahead.retired_at IS NULL
      ORDER BY ahead.run_no
      FOR NO KEY UPDATE OF ahead SKIP LOCKED) AS free
WHERE run.run_no = free.run_no
RETURNING run.run_no;
