-- declare_unknown_dead: replicas that hold runs and have no row: it was deleted by hand.
-- -> replica_id
--
-- As if they had died: whoever reaps ends their backends, frees their runs and buries them; one
-- that lives goes on under a new id.  They can claim nothing: that takes their row.
INSERT INTO harvestd.replica AS replica (replica_id, host, pid, version, dead_at)
SELECT DISTINCT run.replica_id, '?', 0, '?', clock_timestamp()
FROM public.data_source_run AS run
WHERE run.replica_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM harvestd.replica AS known WHERE known.replica_id = run.replica_id)
ON CONFLICT (replica_id) DO NOTHING
RETURNING replica.replica_id;
