-- end_seat_backends: what an earlier holder of the seat may have left: bindings, and backends.
--
-- $1 seat  text   the login
-- -> ended
--
-- A backend is known by login and pid alone, and pids come again: whoever opens a seat removes its
-- bindings first.
WITH unbound AS (
    DELETE FROM harvestd.binding AS binding
    WHERE binding.seat = $1::text::name
),
old AS MATERIALIZED (
    SELECT activity.pid
    FROM pg_catalog.pg_stat_activity AS activity
    WHERE activity.usename = $1::text::name
)
SELECT count(*) AS ended
FROM old
WHERE pg_catalog.pg_terminate_backend(old.pid, 5000);
