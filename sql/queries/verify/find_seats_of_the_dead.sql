-- find_seats_of_the_dead: seats whose replica is gone and whose login is still connected.
--
-- $1 grace  interval   a lease and a tick; or else twice the replica's own lease, if longer
-- -> kind, seat, pid, held_by, since (its last heartbeat, or the lease; as text)
--
-- Without a connection such a seat is simply free: the next replica that needs one takes it.
SELECT 'seat_of_the_dead' AS kind,
       activity.usename::text AS seat,
       activity.pid,
       coalesce(holder.host || ' pid ' || holder.pid, 'replica ' || seat.replica_id) AS held_by,
       coalesce(holder.heartbeat_at, seat.leased_at)::text AS since
FROM harvestd.seat AS seat
CROSS JOIN harvestd.installation AS installation
JOIN pg_catalog.pg_stat_activity AS activity
  ON activity.usename = 'harvestd_' || installation.hex || '_seat_'
                        || lpad(seat.seat_no::text, greatest(3, length(seat.seat_no::text)), '0')
LEFT JOIN harvestd.replica AS holder ON holder.replica_id = seat.replica_id
WHERE seat.replica_id IS NOT NULL
  AND (holder.replica_id IS NULL
       OR holder.heartbeat_at < now() - greatest($1::interval, 2 * holder.lease))
  AND activity.backend_start < now() - $1::interval;
