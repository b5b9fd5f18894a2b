-- read_clock: the only clock for leases and windows, and the change mark of this moment.
-- -> now, mark, forced_at
SELECT clock_timestamp() AS now,
       pg_snapshot_xmin(pg_current_snapshot())::text AS mark,
       installation.forced_at
FROM harvestd.installation AS installation;
