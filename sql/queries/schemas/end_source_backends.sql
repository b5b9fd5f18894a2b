-- end_source_backends: whoever is still connected as the role of a data source.
--
-- $1 role  text
-- -> ended
--
-- Only the replica that holds the source's lock may be; another's were left by a crash.
WITH old AS MATERIALIZED (
    SELECT activity.pid
    FROM pg_catalog.pg_stat_activity AS activity
    WHERE activity.usename = $1::text::name
      AND activity.datname = current_database()
)
SELECT count(*) AS ended
FROM old
WHERE pg_catalog.pg_terminate_backend(old.pid, 5000);
