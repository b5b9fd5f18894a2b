-- find_wrong_bindings: living backends that work for a run which is not theirs.
--
-- $1 tenant_id  text       null: all
-- $2 grace      interval   a lease and a tick: how long a holder may take to learn of it
-- -> kind, tenant_id, data_source, script, run_no, pid, seat, fence, run_fence (null: no such
--    run), since (the beginning of its transaction, as text)
--
-- An idle seat stays bound to the run that used it last: a binding that is behind is wrong only
-- where a transaction goes on.  That began before this snapshot, so the binding is of its time.
SELECT looked.kind,
       binding.tenant_id,
       binding.data_source,
       binding.script,
       binding.run_no,
       binding.pid,
       binding.seat::text AS seat,
       binding.fence,
       run.fence AS run_fence,
       activity.xact_start::text AS since
FROM harvestd.binding AS binding
CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(binding.pid) AS activity
LEFT JOIN public.data_source_run AS run ON run.run_no = binding.run_no
CROSS JOIN LATERAL (VALUES
    ('bound_ahead_of_its_run', binding.fence > run.fence),
    ('bound_without_its_run', activity.xact_start < now() - $2::interval
                              AND (run.run_no IS NULL
                                   OR binding.fence < run.fence
                                   OR run.replica_id IS DISTINCT FROM binding.replica_id))
) AS looked (kind, wrong)
WHERE activity.backend_start = binding.backend_start
  AND looked.wrong
  AND ($1::text IS NULL OR binding.tenant_id = $1::text);
