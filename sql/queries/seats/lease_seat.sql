-- lease_seat: a seat that no living replica has.
--
-- $1 replica_id  uuid
-- $2 seat_no     integer   one it had before, taken again if it still has it; null: any
-- -> seat_no, or no row when all are taken
UPDATE harvestd.seat AS seat
SET replica_id = $1::uuid,
    leased_at  = now()
WHERE seat.seat_no = (
    SELECT free.seat_no
    FROM harvestd.seat AS free
    WHERE free.replica_id IS NULL
       OR (free.replica_id = $1::uuid AND free.seat_no = $2::integer)
       OR NOT EXISTS (SELECT FROM harvestd.replica AS replica
                      WHERE replica.replica_id = free.replica_id
                        AND replica.dead_at IS NULL)
    ORDER BY (free.seat_no = $2::integer) IS TRUE DESC, free.seat_no
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING seat.seat_no;
