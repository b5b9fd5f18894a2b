-- mark_dead_replicas: set the one-way bit of replicas that missed their lease.
--
-- $1 lease  interval
-- -> replica_id
--
-- A heartbeat of the future was written before this clock was set back: nobody can tell how old
-- it is, and a dead holder would keep its runs until the clock is there again.  One that lives
-- goes on under a new id.
UPDATE harvestd.replica AS replica
SET dead_at = clock_timestamp()
WHERE replica.replica_id IN (
    SELECT overdue.replica_id
    FROM harvestd.replica AS overdue
    WHERE overdue.dead_at IS NULL
      AND overdue.heartbeat_at NOT BETWEEN clock_timestamp() - $1::interval
                                       AND clock_timestamp() + $1::interval
    ORDER BY overdue.replica_id
    FOR UPDATE SKIP LOCKED
)
RETURNING replica.replica_id;
