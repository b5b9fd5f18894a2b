-- make_seat: one more seat, leased at once.
--
-- $1 replica_id  uuid
-- -> seat_no
INSERT INTO harvestd.seat (seat_no, replica_id, leased_at)
SELECT coalesce(max(seat.seat_no), 0) + 1, $1::uuid, now()
FROM harvestd.seat AS seat
RETURNING seat_no;
