-- declare_replicas_dead: all of them, for the one owner of an embedded database.
-- -> replica_id
--
-- Whoever holds the owner's lock knows that nobody else works here: what is left are the rows of
-- processes that were killed, and waiting for their lease would only cost time.
UPDATE harvestd.replica AS replica
SET dead_at = clock_timestamp()
WHERE replica.dead_at IS NULL
RETURNING replica.replica_id;
