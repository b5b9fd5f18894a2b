-- beat: renew this replica's row and learn what changed.
--
-- $1 replica_id  uuid
-- $2 run_nos     bigint[]   in hand
-- $3 fences      bigint[]
-- $4 houses      boolean    whether tenants may be at home here
-- -> alive, forced_at, woken_at, stale (run_nos in hand that are no longer mine),
--    living (replica_ids of those that house tenants, this one as it says now)
--
-- What is in hand comes as arrays: a search by replica_id would scan the run table.
WITH beat AS (
    UPDATE harvestd.replica AS replica
    SET heartbeat_at = clock_timestamp(),
        houses       = $4::boolean
    WHERE replica.replica_id = $1::uuid
      AND replica.dead_at IS NULL
    RETURNING replica.replica_id
)
SELECT EXISTS (SELECT FROM beat) AS alive,
       installation.forced_at,
       installation.woken_at,
       (SELECT coalesce(array_agg(hand.run_no ORDER BY hand.run_no), '{}')
        FROM unnest($2::bigint[], $3::bigint[]) AS hand (run_no, fence)
        LEFT JOIN public.data_source_run AS run
          ON run.run_no = hand.run_no AND run.fence = hand.fence AND run.replica_id = $1::uuid
        WHERE run.run_no IS NULL) AS stale,
       (SELECT coalesce(array_agg(other.replica_id ORDER BY other.replica_id), '{}')
        FROM harvestd.replica AS other
        WHERE other.dead_at IS NULL
          AND CASE WHEN other.replica_id = $1::uuid THEN $4::boolean ELSE other.houses END)
           AS living
FROM harvestd.installation AS installation;
