-- register_replica: this process enters the living.
--
-- $1 replica_id  uuid
-- $2 host        text
-- $3 pid         integer
-- $4 version     text
-- $5 lease       interval   how long it may be silent
-- -> started_at
--
-- Again if the answer to the first time was lost.
INSERT INTO harvestd.replica (replica_id, host, pid, version, lease)
VALUES ($1::uuid, $2::text, $3::integer, $4::text, $5::interval)
ON CONFLICT (replica_id) DO UPDATE SET heartbeat_at = clock_timestamp()
RETURNING started_at;
