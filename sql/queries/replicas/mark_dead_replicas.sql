-- mark_dead_replicas: set the one-way bit of replicas that missed their lease; who is left.
--
-- $1 lease  interval   of replicas that did not say how long theirs is
-- -> replica_id, marked (it is dead from now on), left_seconds (until its lease runs out: 0 or
--    less where another reaper, or its heartbeat, has its row at this moment)
--
-- A heartbeat of the future was written before this clock was set back: nobody can tell how old
-- it is, and a dead holder would keep its runs until the clock is there again.  One that lives
-- goes on under a new id.
WITH overdue AS (
    SELECT replica.replica_id
    FROM harvestd.replica AS replica
    WHERE replica.dead_at IS NULL
      AND replica.heartbeat_at
          NOT BETWEEN clock_timestamp() - coalesce(replica.lease, $1::interval)
                  AND clock_timestamp() + coalesce(replica.lease, $1::interval)
    ORDER BY replica.replica_id
    FOR UPDATE SKIP LOCKED
),
marked AS (
    UPDATE harvestd.replica AS replica
    SET dead_at = clock_timestamp()
    FROM overdue
    WHERE replica.replica_id = overdue.replica_id
    RETURNING replica.replica_id
)
SELECT replica.replica_id,
       marked.replica_id IS NOT NULL AS marked,
       extract(epoch FROM replica.heartbeat_at + coalesce(replica.lease, $1::interval)
                          - clock_timestamp())::float8 AS left_seconds
FROM harvestd.replica AS replica
LEFT JOIN marked ON marked.replica_id = replica.replica_id
WHERE replica.dead_at IS NULL
ORDER BY replica.replica_id;
