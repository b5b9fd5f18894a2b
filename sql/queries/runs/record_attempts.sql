-- record_attempts: the ends of attempts, into their run rows and the history.
--
-- $1 replica_id   uuid
-- $2 endings      jsonb         [[value, ...], ...]: the columns of "asked", of which
--      status       the row's new status
--      outcome      for the history
--      reason       why it waits or failed, or null
--      error        redacted, or null
--      delay        seconds: due this long after now, or after started_at
--      from_start   whether the delay counts from started_at
--      not_before   null: none
--      failures     in a row, as counted by this attempt
--      covered      source time to add to the ledger, as a multirange
--      plugin_hash  content hash of the source's folder
--      keep         whether it belongs into the history
-- -> run_no of each attempt that was recorded; one missing was lost, or its row is locked
--
-- SKIP LOCKED: a run whose backend still writes holds up no other; it is recorded alone later.
-- covered is added to what is stored, never computed from what was read.
-- jsonb: as 15 arrays it took the driver three times as long, and the server too (docs/bench.md).
-- LIMIT: tells the planner how many, who takes 100 for granted and would scan a small run table.
WITH asked AS (
    SELECT (ending ->> 0)::bigint       AS run_no,
           (ending ->> 1)::bigint       AS fence,
           (ending ->> 2)               AS status,
           (ending ->> 3)               AS outcome,
           (ending ->> 4)               AS reason,
           (ending ->> 5)               AS error,
           make_interval(secs => (ending ->> 6)::double precision) AS delay,
           (ending ->> 7)::boolean      AS from_start,
           (ending ->> 8)::timestamptz  AS not_before,
           (ending ->> 9)::integer      AS failures,
           (ending ->> 10)::tstzmultirange AS covered,
           (ending ->> 11)::integer     AS windows,
           (ending ->> 12)::bigint      AS rows_written,
           (ending ->> 13)              AS plugin_hash,
           (ending ->> 14)::boolean     AS keep
    FROM jsonb_array_elements($2::jsonb) AS endings (ending)
    LIMIT jsonb_array_length($2::jsonb)
),
mine AS (
    SELECT run.run_no
    FROM asked
    JOIN public.data_source_run AS run ON run.run_no = asked.run_no AND run.fence = asked.fence
    WHERE run.replica_id = $1::uuid
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
recorded AS (
    UPDATE public.data_source_run AS run
    SET status       = asked.status::public."DataSourceRunStatus",
        replica_id   = NULL,
        completed_at = clock_timestamp(),
        error        = asked.error,
        reason       = asked.reason,
        due_at       = asked.delay
                       + CASE WHEN asked.from_start THEN run.started_at ELSE clock_timestamp() END,
        not_before   = coalesce(asked.not_before, '-infinity'),
        failures     = asked.failures,
        deaths       = 0,
        covered      = run.covered + asked.covered,
        -- Left alone when nothing is added: a hand-set date may stand there.
        last_fetched_data_date = CASE WHEN isempty(asked.covered)
                                      THEN run.last_fetched_data_date
                                      ELSE upper(run.covered + asked.covered) END,
        rows_written = run.rows_written + asked.rows_written
    FROM asked
    JOIN mine ON mine.run_no = asked.run_no
    WHERE run.run_no = asked.run_no
      AND run.fence = asked.fence
    RETURNING run.run_no, run.fence, run.tenant_id, run.data_source, run.script, run.started_at,
              run.completed_at
),
kept AS (
    INSERT INTO harvestd.run_history (
        ended_at, run_no, fence, tenant_id, data_source, script, replica_id, plugin_hash,
        started_at, outcome, reason, error, windows, rows_written, covered)
    SELECT recorded.completed_at, recorded.run_no, recorded.fence, recorded.tenant_id,
           recorded.data_source, recorded.script, $1::uuid, asked.plugin_hash,
           recorded.started_at, asked.outcome, asked.reason, asked.error, asked.windows,
           asked.rows_written, asked.covered
    FROM recorded
    JOIN asked ON asked.run_no = recorded.run_no
    WHERE asked.keep
)
SELECT recorded.run_no
FROM recorded;
