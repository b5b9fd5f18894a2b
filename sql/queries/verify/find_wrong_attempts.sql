-- find_wrong_attempts: attempts of the history that contradict each other, or their run's row.
--
-- $1 tenant_id  text   null: all
-- -> kind, tenant_id, data_source, script, run_no, fence, run_fence, outcome, started_at,
--    ended_at, other_fence and other_at (of the attempt that it contradicts), lacks (source time);
--    times as text
--
-- By the end, which is the order of the history's index: if any two attempts overlap, then so do
-- two neighbours.  A second is let pass: the start is the moment in which the claim's transaction
-- began, and the attempt before may have been recorded between that and its look at the row.
-- What a later reset, backfill or date set by hand took out of the ledger is not missing from it.
SELECT looked.kind,
       attempt.tenant_id,
       attempt.data_source,
       attempt.script,
       attempt.run_no,
       attempt.fence,
       run.fence AS run_fence,
       attempt.outcome,
       attempt.started_at::text AS started_at,
       attempt.ended_at::text AS ended_at,
       looked.other_fence,
       looked.other_at::text AS other_at,
       left((attempt.covered - run.covered)::text, 200) AS lacks
FROM (SELECT kept.tenant_id, kept.data_source, kept.script, kept.run_no, kept.fence, kept.outcome,
             kept.started_at, kept.ended_at, kept.covered,
             lag(kept.fence) OVER earlier AS fence_before,
             lag(kept.ended_at) OVER earlier AS ended_before
      FROM harvestd.run_history AS kept
      WHERE $1::text IS NULL OR kept.tenant_id = $1::text
      WINDOW earlier AS (PARTITION BY kept.run_no ORDER BY kept.ended_at)) AS attempt
LEFT JOIN public.data_source_run AS run ON run.run_no = attempt.run_no
CROSS JOIN LATERAL (VALUES
    ('recorded_twice', attempt.fence = attempt.fence_before,
     attempt.fence_before, attempt.ended_before),
    ('fence_went_back', attempt.fence < attempt.fence_before,
     attempt.fence_before, attempt.ended_before),
    ('attempts_overlap', attempt.started_at < attempt.ended_before - interval '1 second',
     attempt.fence_before, attempt.ended_before),
    ('attempts_overlap', run.replica_id IS NOT NULL AND run.fence > attempt.fence
                         AND run.started_at < attempt.ended_at - interval '1 second',
     run.fence, run.started_at),
    ('row_behind_history', attempt.fence > run.fence
                           OR (attempt.fence = run.fence AND run.replica_id IS NOT NULL),
     run.fence, run.started_at),
    ('ledger_lacks', attempt.ended_at > run.cut_at AND NOT attempt.covered <@ run.covered,
     run.fence, run.cut_at)
) AS looked (kind, wrong, other_fence, other_at)
WHERE looked.wrong;
