-- record_attempts: the ends of attempts, into their run rows and the history.
--
-- $1 replica_id   uuid
-- $2 run_nos      bigint[]
-- $3 fences       bigint[]
-- $4 statuses     text[]        the row's new status
-- $5 outcomes     text[]        for the history
-- $6 reasons      text[]        why it waits or failed, or null
-- $7 errors       text[]        redacted, or null
-- $8 delays       interval[]    due this long after now, or after started_at
-- $9 from_starts  boolean[]     whether the delay counts from started_at
-- $10 not_befores timestamptz[] null: none
-- $11 failures    integer[]     in a row, as counted by this attempt
-- $12 covered     text[]        source time to add to the ledger, as a multirange
-- $13 windows     integer[]
-- $14 rows        bigint[]
-- $15 plugins     text[]        content hash of the source's folder
-- $16 keeps       boolean[]     whether it belongs into the history
-- -> run_no of each attempt that was recorded; one missing was lost, or its row is locked
--
-- SKIP LOCKED: a run whose backend still writes holds up no other; it is recorded alone later.
-- covered is added to what is stored, never computed from what was read.
WITH asked AS (
    SELECT ending.*
    FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                $8::interval[], $9::boolean[], $10::timestamptz[], $11::integer[], $12::text[],
                $13::integer[], $14::bigint[], $15::text[], $16::boolean[])
        AS ending (run_no, fence, status, outcome, reason, error, delay, from_start, not_before,
                   failures, covered, windows, rows_written, plugin_hash, keep)
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
        covered      = run.covered + asked.covered::tstzmultirange,
        -- Left alone when nothing is added: a hand-set date may stand there.
        last_fetched_data_date = CASE WHEN isempty(asked.covered::tstzmultirange)
                                      THEN run.last_fetched_data_date
                                      ELSE upper(run.covered + asked.covered::tstzmultirange) END,
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
           asked.rows_written, asked.covered::tstzmultirange
    FROM recorded
    JOIN asked ON asked.run_no = recorded.run_no
    WHERE asked.keep
)
SELECT recorded.run_no
FROM recorded;
