-- claim_runs: take those of the listed runs that nobody touched since, for this replica.
--
-- $1 replica_id  uuid
-- $2 listed      jsonb        [[run_no, fence, plugin_hash], ...], 1 .. 1000: the fence as listed,
--                             and the content hash of the folder that each will run from
-- -> run_no, answer ('taken', 'held', 'gone'), and for 'taken': fence, origin, covered_from and
--    covered_to where the ledger is one stretch (nearly always), else pieces, started_at (the
--    claim's moment), failures, was_completed (before the claim)
--
-- SKIP LOCKED: replicas claiming at the same moment share the work instead of queueing.
-- NO KEY UPDATE: weaker modes let a revived writer commit after a takeover; stronger ones
-- block foreign keys.
-- me FOR SHARE: a replica that is being declared dead at this moment either claims before
-- (and the claim is seen and given back) or not at all.  KEY SHARE would not hold the mark off.
-- LIMIT: tells the planner how many, who takes 100 for granted and would scan a small run table.
-- fence + 1: a replica that wakes from a pause still holds the old number, and every
-- statement that writes for a run compares it.
WITH me AS (
    SELECT replica.replica_id
    FROM harvestd.replica AS replica
    WHERE replica.replica_id = $1::uuid
      AND replica.dead_at IS NULL
    FOR SHARE
),
asked AS (
    SELECT (run ->> 0)::bigint AS run_no, (run ->> 1)::bigint AS fence, run ->> 2 AS plugin_hash
    FROM jsonb_array_elements($2::jsonb) AS listed (run)
    LIMIT jsonb_array_length($2::jsonb)
),
free AS (
    SELECT run.run_no, run.status = 'COMPLETED' AS was_completed, asked.plugin_hash
    FROM asked
    JOIN public.data_source_run AS run ON run.run_no = asked.run_no AND run.fence = asked.fence
    WHERE (run.status <> 'RUNNING' OR run.replica_id IS NULL)
      AND run.retired_at IS NULL
      AND run.origin IS NOT NULL
      AND run.not_before <= now()
      AND EXISTS (SELECT FROM me)
      -- a turn may have been read before the pause
      AND NOT EXISTS (SELECT FROM public.tenant AS tenant
                      WHERE tenant.id = run.tenant_id AND tenant.paused_at IS NOT NULL)
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
taken AS (
    UPDATE public.data_source_run AS run
    SET status      = 'RUNNING',
        fence       = run.fence + 1,
        replica_id  = $1::uuid,
        started_at  = now(),
        error       = NULL,
        blocked_by  = NULL,
        reason      = NULL,
        plugin_hash = free.plugin_hash
    FROM free
    WHERE run.run_no = free.run_no
    RETURNING run.run_no, run.fence, run.origin, run.covered, run.started_at,
              least(run.failures, 1000000) AS failures,  -- one more has a place in the column
              free.was_completed
)
SELECT asked.run_no,
       CASE WHEN taken.run_no IS NOT NULL THEN 'taken'
            WHEN run.replica_id IS NOT NULL THEN 'held'
            WHEN run.fence = asked.fence AND run.retired_at IS NULL AND run.not_before <= now()
                THEN 'held'
            ELSE 'gone' END AS answer,
       taken.fence,
       taken.origin,
       lower(taken.covered) AS covered_from,
       upper(taken.covered) AS covered_to,
       CASE WHEN taken.covered <> range_merge(taken.covered)::tstzmultirange
            THEN taken.covered END AS pieces,
       taken.started_at,
       taken.failures,
       taken.was_completed
FROM asked
LEFT JOIN taken ON taken.run_no = asked.run_no
LEFT JOIN public.data_source_run AS run ON run.run_no = asked.run_no;
