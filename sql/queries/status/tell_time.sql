-- tell_time: the clock that windows and leases go by.
-- -> now
SELECT clock_timestamp() AS now;
