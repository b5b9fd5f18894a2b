-- end_seat_backends: what an earlier holder of the seat may have left connected.
--
-- $1 seat  text   the login
-- -> ended
WITH old AS MATERIALIZED (
    SELECT activity.pid
    FROM pg_catalog.pg_stat_activity AS activity
    WHERE activity.usename = $1::text::name
)
SELECT count(*) AS ended
FROM old
WHERE pg_catalog.pg_terminate_backend(old.pid, 5000);
