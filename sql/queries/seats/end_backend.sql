-- end_backend: end one seat backend and wait until it is gone.
--
-- $1 pid      integer
-- $2 wait_ms  bigint
-- -> gone
SELECT pg_catalog.pg_terminate_backend($1::integer, $2::bigint) AS gone;
