-- list_replicas: the processes that have not been declared dead.
-- -> replica_id, host, pid, version, started_at, silent_seconds (since the last heartbeat),
--    lease_seconds (its own; null: an older version, which does not say it), houses (whether
--    tenants may be at home there), holds (runs), plugin_problems (files and schemas that it
--    cannot use), lacks (scripts that another of them can run)
WITH known AS (
    SELECT DISTINCT unnest(replica.scripts) AS name
    FROM harvestd.replica AS replica
    WHERE replica.dead_at IS NULL
)
SELECT replica.replica_id,
       replica.host,
       replica.pid,
       replica.version,
       replica.started_at,
       extract(epoch FROM clock_timestamp() - replica.heartbeat_at)::float8 AS silent_seconds,
       extract(epoch FROM replica.lease)::float8 AS lease_seconds,
       replica.houses,
       count(run.run_no) AS holds,
       replica.plugin_problems,
       ARRAY(SELECT known.name FROM known
             WHERE known.name <> ALL (replica.scripts)
             ORDER BY known.name) AS lacks
FROM harvestd.replica AS replica
LEFT JOIN public.data_source_run AS run ON run.replica_id = replica.replica_id
WHERE replica.dead_at IS NULL
GROUP BY replica.replica_id, replica.host, replica.pid, replica.version, replica.started_at,
         replica.heartbeat_at, replica.lease, replica.houses, replica.plugin_problems,
         replica.scripts
ORDER BY replica.started_at, replica.replica_id
LIMIT 1000;
