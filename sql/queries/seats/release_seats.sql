-- release_seats: this replica's seats are free for others.
--
-- $1 replica_id  uuid
-- -> seat_no
UPDATE harvestd.seat AS seat
SET replica_id = NULL,
    leased_at  = NULL
WHERE seat.replica_id = $1::uuid
RETURNING seat.seat_no;
