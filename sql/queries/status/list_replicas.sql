-- list_replicas: the processes that have not been declared dead.
-- -> host, pid, version, started_at, silent_seconds (since the last heartbeat), holds (runs),
--    plugin_problems (files and schemas that it cannot use)
SELECT replica.host,
       replica.pid,
       replica.version,
       replica.started_at,
       extract(epoch FROM clock_timestamp() - replica.heartbeat_at)::float8 AS silent_seconds,
       count(run.run_no) AS holds,
       replica.plugin_problems
FROM harvestd.replica AS replica
LEFT JOIN public.data_source_run AS run ON run.replica_id = replica.replica_id
WHERE replica.dead_at IS NULL
GROUP BY replica.replica_id, replica.host, replica.pid, replica.version, replica.started_at,
         replica.heartbeat_at, replica.plugin_problems
ORDER BY replica.started_at, replica.replica_id
LIMIT 1000;
