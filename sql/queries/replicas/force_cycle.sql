-- force_cycle: every replica runs a cycle soon; with `all_runs` whatever last started before now.
--
-- $1 all_runs  boolean
-- -> woken_at
UPDATE harvestd.installation AS installation
SET woken_at  = clock_timestamp(),
    forced_at = CASE WHEN $1::boolean THEN clock_timestamp() ELSE installation.forced_at END
RETURNING installation.woken_at;
