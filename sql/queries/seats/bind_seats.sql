-- bind_seats: from now on these backends read and write for these runs, while their fences hold.
--
-- $1 replica_id    uuid
-- $2 pids          integer[]      of the seats' backends, each once
-- $3 seats         text[]         their logins
-- $4 run_nos       bigint[]
-- $5 fences        bigint[]
-- $6 handed_froms  timestamptz[]  where the window handed out begins; null for snapshot scripts
-- $7 covers_froms  timestamptz[]  what the window covers; null for snapshot scripts
-- $8 covers_tos    timestamptz[]
-- -> pid of each that is bound; one is missing when its run is no longer ours
--
-- Not waited for on disk: a binding is of a backend, and none outlives a crash of the server.
WITH relaxed AS MATERIALIZED (
    SELECT pg_catalog.set_config('synchronous_commit', 'off', true)
)
INSERT INTO harvestd.binding AS binding (
    pid, seat, backend_start, run_no, fence, replica_id, tenant_id, data_source, script,
    handed_from, covers)
SELECT activity.pid,
       asked.seat::name,
       activity.backend_start,
       run.run_no,
       run.fence,
       run.replica_id,
       run.tenant_id,
       run.data_source,
       run.script,
       asked.handed_from,
       CASE WHEN asked.covers_from IS NULL THEN NULL
            ELSE tstzrange(asked.covers_from, asked.covers_to) END
FROM relaxed
CROSS JOIN unnest($2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[],
                  $7::timestamptz[], $8::timestamptz[])
    AS asked (pid, seat, run_no, fence, handed_from, covers_from, covers_to)
JOIN public.data_source_run AS run ON run.run_no = asked.run_no AND run.fence = asked.fence
CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(asked.pid) AS activity
WHERE run.replica_id = $1::uuid
  AND pg_catalog.pg_get_userbyid(activity.usesysid) = asked.seat::name
ON CONFLICT (pid) DO UPDATE
SET seat = excluded.seat,
    backend_start = excluded.backend_start,
    run_no = excluded.run_no,
    fence = excluded.fence,
    replica_id = excluded.replica_id,
    tenant_id = excluded.tenant_id,
    data_source = excluded.data_source,
    script = excluded.script,
    handed_from = excluded.handed_from,
    covers = excluded.covers
RETURNING binding.pid;
