-- end_backend: end one seat backend and wait until it is gone.
--
-- $1 pid      integer
-- $2 wait_ms  bigint
-- $3 seat     text     its login: a process id comes again, and may be somebody else's by now
-- -> gone
SELECT coalesce((
    SELECT pg_catalog.pg_terminate_backend(activity.pid, $2::bigint)
    FROM pg_catalog.pg_stat_get_activity($1::integer) AS activity
    WHERE pg_catalog.pg_get_userbyid(activity.usesysid) = $3::text::name
), true) AS gone;
