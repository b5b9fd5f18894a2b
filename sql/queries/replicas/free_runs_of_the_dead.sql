-- free_runs_of_the_dead: give back what dead replicas hold, once no backend writes for it.
--
-- $1 tick   interval   backoff counts in ticks
-- $2 error  text       what to say of one that is held after its third death
-- -> run_no, tenant_id, data_source, script
--
-- Whether a backend is left is looked at here, not before: another replica may have been declared
-- dead meanwhile, by another reaper who has not come to its backends yet.
-- fence + 1: the dead holder may wake up.  The first death costs nothing, from the second on
-- the run backs off, so that a script which kills its process does not do so every tick; the
-- third in a row holds it until somebody changes its configuration or its plugin, or triggers it.
-- least: a number of another program's, at its type's end, would hold up all of them.
-- Spread by a fifth: of those that died together only one may be the killer.
WITH abandoned AS (
    SELECT run.run_no, run.replica_id, run.fence, run.started_at
    FROM harvestd.replica AS replica
    JOIN public.data_source_run AS run ON run.replica_id = replica.replica_id
    WHERE replica.dead_at IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM harvestd.binding AS binding
          CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(binding.pid) AS activity
          WHERE binding.run_no = run.run_no
            AND binding.replica_id = run.replica_id
            AND activity.backend_start = binding.backend_start)
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
freed AS (
    UPDATE public.data_source_run AS run
    SET status     = CASE WHEN run.deaths < 2 THEN 'PENDING' ELSE 'FAILED' END
                     ::public."DataSourceRunStatus",
        replica_id = NULL,
        fence      = run.fence + 1,
        failures   = least(run.failures, 1000000) + 1,
        deaths     = least(run.deaths, 1000000) + 1,
        reason     = 'holder_died',
        error      = CASE WHEN run.deaths < 2 THEN run.error ELSE $2::text END,
        not_before = CASE WHEN run.deaths < 2 THEN run.not_before ELSE 'infinity' END,
        due_at     = now() + CASE WHEN run.failures = 0 THEN interval '0'
                                  ELSE least($1::interval * (2 ^ least(run.failures, 16)),
                                             interval '1 hour') * (1.2 - 0.4 * random()) END
    FROM abandoned
    WHERE run.run_no = abandoned.run_no
    RETURNING run.run_no, run.tenant_id, run.data_source, run.script
),
kept AS (
    INSERT INTO harvestd.run_history (
        ended_at, run_no, fence, tenant_id, data_source, script, replica_id, started_at,
        outcome, reason)
    SELECT clock_timestamp(), freed.run_no, abandoned.fence, freed.tenant_id, freed.data_source,
           freed.script, abandoned.replica_id, abandoned.started_at, 'lost', 'holder_died'
    FROM freed
    JOIN abandoned ON abandoned.run_no = freed.run_no
)
SELECT freed.run_no, freed.tenant_id, freed.data_source, freed.script
FROM freed
ORDER BY freed.run_no;
