-- cover_window: add a finished window to the ledger of a run that goes on.
--
-- $1 run_no   bigint
-- $2 fence    bigint
-- $3 covered  text     a multirange
-- -> run_no, or no row when the fence has grown
--
-- deaths: an attempt that gets on is not one that kills its process.
UPDATE public.data_source_run AS run
SET covered = run.covered + $3::text::tstzmultirange,
    last_fetched_data_date = upper(run.covered + $3::text::tstzmultirange),
    deaths  = 0
WHERE run.run_no = $1::bigint
  AND run.fence = $2::bigint
RETURNING run.run_no;
