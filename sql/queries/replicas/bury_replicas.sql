-- bury_replicas: forget dead replicas that hold nothing and write nothing any more.
-- -> replica_id
--
-- Not within the first minute: until then the row shows people what died, and when.
DELETE FROM harvestd.replica AS replica
WHERE replica.dead_at < clock_timestamp() - interval '1 minute'
  AND NOT EXISTS (
      SELECT FROM public.data_source_run AS run WHERE run.replica_id = replica.replica_id)
  AND NOT EXISTS (
      SELECT FROM harvestd.binding AS binding
      CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(binding.pid) AS activity
      WHERE binding.replica_id = replica.replica_id
        AND activity.backend_start = binding.backend_start)
RETURNING replica.replica_id;
