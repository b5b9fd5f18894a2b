-- mark_dead_replicas: set the one-way bit of replicas that missed their lease.
--
-- $1 lease  interval
-- -> replica_id
UPDATE harvestd.replica AS replica
SET dead_at = clock_timestamp()
WHERE replica.replica_id IN (
    SELECT overdue.replica_id
    FROM harvestd.replica AS overdue
    WHERE overdue.dead_at IS NULL
      AND overdue.heartbeat_at < clock_timestamp() - $1::interval
    ORDER BY overdue.replica_id
    FOR UPDATE SKIP LOCKED
)
RETURNING replica.replica_id;
