-- lease_seat: a seat that no living replica has.
--
-- $1 replica_id  uuid
-- $2 in_use      integer[]   those that it has and uses
-- -> seat_no, or no row when all are taken
UPDATE harvestd.seat AS seat
SET replica_id = $1::uuid,
    leased_at  = now()
WHERE seat.seat_no = (
    SELECT free.seat_no
    FROM harvestd.seat AS free
    WHERE CASE WHEN free.replica_id = $1::uuid THEN free.seat_no <> ALL ($2::integer[])
               ELSE NOT EXISTS (SELECT FROM harvestd.replica AS replica
                                WHERE replica.replica_id = free.replica_id
                                  AND replica.dead_at IS NULL) END
    ORDER BY (free.replica_id = $1::uuid) IS TRUE DESC, free.seat_no
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING seat.seat_no;
