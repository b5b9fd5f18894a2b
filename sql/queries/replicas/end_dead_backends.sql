-- end_dead_backends: end the backends that are bound to runs of dead replicas.
-- -> ended
--
-- MATERIALIZED: in one WHERE with the joins the planner may call the function below them and
-- end the backends of the living too (seen; research: skeleton A.1).
WITH doomed AS MATERIALIZED (
    SELECT activity.pid
    FROM harvestd.binding AS binding
    JOIN harvestd.replica AS replica
      ON replica.replica_id = binding.replica_id AND replica.dead_at IS NOT NULL
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(binding.pid) AS activity
    WHERE activity.backend_start = binding.backend_start
)
SELECT count(*) AS ended
FROM doomed
WHERE pg_catalog.pg_terminate_backend(doomed.pid);
