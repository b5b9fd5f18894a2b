-- list_dead_backends: runs of dead replicas whose backend is still there.
-- -> run_no
SELECT binding.run_no
FROM harvestd.binding AS binding
JOIN harvestd.replica AS replica
  ON replica.replica_id = binding.replica_id AND replica.dead_at IS NOT NULL
CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(binding.pid) AS activity
WHERE activity.backend_start = binding.backend_start
ORDER BY binding.run_no;
