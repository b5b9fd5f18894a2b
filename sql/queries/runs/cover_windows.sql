-- cover_windows: add finished windows to the ledgers of runs that go on.
--
-- $1 run_nos  bigint[]
-- $2 fences   bigint[]
-- $3 covered  text[]     a multirange each
-- -> run_no of each that was covered; one missing was lost, or its row is locked
--
-- SKIP LOCKED: a run whose backend still writes holds up no other; it is covered alone later.
-- deaths: an attempt that gets on is not one that kills its process.
WITH asked AS (
    SELECT finished.run_no, finished.fence, finished.covered::tstzmultirange AS covered
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS finished (run_no, fence, covered)
),
mine AS (
    SELECT run.run_no
    FROM asked
    JOIN public.data_source_run AS run ON run.run_no = asked.run_no AND run.fence = asked.fence
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
)
UPDATE public.data_source_run AS run
SET covered = run.covered + asked.covered,
    last_fetched_data_date = upper(run.covered + asked.covered),
    deaths  = 0
FROM asked
JOIN mine ON mine.run_no = asked.run_no
WHERE run.run_no = asked.run_no
  AND run.fence = asked.fence
RETURNING run.run_no;
