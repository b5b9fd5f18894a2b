-- bind_seat: from now on this backend reads and writes for this run, while its fence holds.
--
-- $1 replica_id   uuid
-- $2 pid          integer       of the seat's backend
-- $3 seat         text          its login
-- $4 run_no       bigint
-- $5 fence        bigint
-- $6 handed_from  timestamptz   where the window handed out begins; null for snapshot scripts
-- $7 covers_from  timestamptz   what the window covers; null for snapshot scripts
-- $8 covers_to    timestamptz
-- -> pid, or no row when the run is no longer ours
INSERT INTO harvestd.binding AS binding (
    pid, seat, backend_start, run_no, fence, replica_id, tenant_id, data_source, script,
    handed_from, covers)
SELECT activity.pid,
       $3::text::name,
       activity.backend_start,
       run.run_no,
       run.fence,
       run.replica_id,
       run.tenant_id,
       run.data_source,
       run.script,
       $6::timestamptz,
       CASE WHEN $7::timestamptz IS NULL THEN NULL
            ELSE tstzrange($7::timestamptz, $8::timestamptz) END
FROM public.data_source_run AS run
CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity($2::integer) AS activity
WHERE run.run_no = $4::bigint
  AND run.fence = $5::bigint
  AND run.replica_id = $1::uuid
  AND pg_catalog.pg_get_userbyid(activity.usesysid) = $3::text::name
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
