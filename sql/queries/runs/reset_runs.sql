-- reset_runs: take everything out of the ledger of a tenant's runs, so that all is read again.
--
-- $1 tenant_id    text
-- $2 data_source  text   null: all
-- $3 script       text   null: all
-- -> data_source, script, held
--
-- A held run stays RUNNING with a raised fence: its holder learns it and gives the run back.
-- Where covered was empty already and only a hand-set date goes, the trigger for hand-set dates
-- fires; it sets the same values, counted from the old fence too.
-- ORDER BY: it may wait for a script's transaction; two that wait in one order never deadlock.
UPDATE public.data_source_run AS run
SET covered                = '{}',
    last_fetched_data_date = NULL,
    due_at                 = now(),
    not_before             = '-infinity',
    failures               = 0,
    deaths                 = 0,
    cut_at                 = clock_timestamp(),
    fence                  = run.fence + (run.replica_id IS NOT NULL)::integer
FROM (SELECT locked.run_no
      FROM public.data_source_run AS locked
      WHERE locked.tenant_id = $1::text
        AND ($2::text IS NULL OR locked.data_source = $2::text)
        AND ($3::text IS NULL OR locked.script = $3::text)
      ORDER BY locked.run_no
      FOR NO KEY UPDATE) AS chosen
WHERE run.run_no = chosen.run_no
RETURNING run.data_source,
          run.script,
          run.replica_id IS NOT NULL AS held;
