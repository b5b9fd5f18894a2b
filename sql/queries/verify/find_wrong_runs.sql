-- find_wrong_runs: run rows that contradict themselves, or whose holder is not living.
--
-- $1 tenant_id  text       null: all
-- $2 grace      interval   a lease and a tick: how long a takeover may take; or else twice the
--                          holder's own lease, where that is longer
-- -> kind, tenant_id, data_source, script, run_no, covered, dated (last_fetched_data_date), origin,
--    held_by (host and pid), since (its last heartbeat), retired_at; times as text, since other
--    programs write them and not every one has a place in Python
--
-- A date after the ledger was set by hand into a gap, and stays until something is covered: it is
-- wrong only if an attempt that began later completed.
-- statement_timestamp: now() is before the snapshot, and a window may have ended between the two.
SELECT looked.kind,
       run.tenant_id,
       run.data_source,
       run.script,
       run.run_no,
       left(run.covered::text, 200) AS covered,
       run.last_fetched_data_date::text AS dated,
       run.origin::text AS origin,
       coalesce(holder.host || ' pid ' || holder.pid, 'replica ' || run.replica_id) AS held_by,
       holder.heartbeat_at::text AS since,
       run.retired_at::text AS retired_at
FROM public.data_source_run AS run
LEFT JOIN harvestd.replica AS holder ON holder.replica_id = run.replica_id
CROSS JOIN LATERAL (VALUES
    ('date_apart',
     run.origin IS NOT NULL
     AND (NOT isempty(run.covered)
          AND (run.last_fetched_data_date IS NULL
               OR run.last_fetched_data_date < upper(run.covered))
          OR run.last_fetched_data_date > coalesce(upper(run.covered), run.origin)
             AND run.status = 'COMPLETED'
             AND run.started_at > run.cut_at)),
    ('covered_before_origin', lower(run.covered) < run.origin),
    ('covered_in_the_future', upper(run.covered) > statement_timestamp()),
    ('held_by_nobody', run.replica_id IS NOT NULL AND holder.replica_id IS NULL),
    ('held_by_the_dead', holder.heartbeat_at < now() - greatest($2::interval, 2 * holder.lease)),
    ('retired_but_held', run.replica_id IS NOT NULL
                         AND run.retired_at < now() - greatest($2::interval, holder.lease))
) AS looked (kind, wrong)
WHERE looked.wrong
  AND ($1::text IS NULL OR run.tenant_id = $1::text);
