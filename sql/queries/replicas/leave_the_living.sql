-- leave_the_living: this replica ends cleanly; its tenants may move at once.
--
-- $1 replica_id  uuid
-- -> replica_id
UPDATE harvestd.replica AS replica
SET dead_at = clock_timestamp()
WHERE replica.replica_id = $1::uuid
  AND replica.dead_at IS NULL
RETURNING replica.replica_id;
