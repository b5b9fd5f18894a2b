-- begin_trial: make this very session what a seat is to a run, in a transaction that never ends
-- well: a run row that only it sees, and its binding.
--
-- $1 tenant_id    text
-- $2 data_source  text
-- $3 script       text
-- $4 row_name     text          of no script, so that nobody waits for the row's unique key
-- $5 from_at      timestamptz   the window
-- $6 to_at        timestamptz
-- $7 checkpoints  boolean       false for snapshot scripts
-- -> run_no, fence
WITH run AS (
    INSERT INTO public.data_source_run AS made (tenant_id, data_source, script, origin, fence)
    VALUES ($1::text, $2::text, $4::text, $5::timestamptz, 1)
    RETURNING made.run_no, made.fence
)
INSERT INTO harvestd.binding AS binding (
    pid, seat, backend_start, run_no, fence, replica_id, tenant_id, data_source, script,
    handed_from, covers)
SELECT activity.pid,
       session_user,
       activity.backend_start,
       run.run_no,
       run.fence,
       gen_random_uuid(),
       $1::text,
       $2::text,
       $3::text,
       CASE WHEN $7::boolean THEN $5::timestamptz END,
       CASE WHEN $7::boolean THEN tstzrange($5::timestamptz, $6::timestamptz) END
FROM run
CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS activity
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
RETURNING binding.run_no, binding.fence;
