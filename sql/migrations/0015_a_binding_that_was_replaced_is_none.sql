-- breaking: no
-- SET TRANSACTION SNAPSHOT lets any session read what was true when another one, still open, began.
-- A seat so read whom it had worked for before: it saw that tenant's rows, and wrote them.

-- Each of the three asks for a binding that nobody has replaced since.  A row that was replaced
-- holds in xmax who did, whatever the snapshot; one that was put in its place holds itself there.
-- At READ COMMITTED each statement sees what is true, and somebody's row lock is no matter.
CREATE OR REPLACE FUNCTION harvestd.hold() RETURNS harvestd.binding
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    bound harvestd.binding;
BEGIN
    SELECT binding.* INTO bound
    FROM harvestd.binding AS binding
    JOIN public.data_source_run AS run
      ON run.run_no = binding.run_no
     AND run.fence = binding.fence
    WHERE binding.pid = pg_backend_pid()
      AND binding.seat = session_user
      AND binding.backend_start = (SELECT mine.backend_start
                                   FROM pg_stat_get_activity(pg_backend_pid()) AS mine)
      AND (current_setting('transaction_isolation') = 'read committed'
           OR binding.xmax IN ('0', binding.xmin))
    FOR NO KEY UPDATE OF run;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'HD001';
    END IF;
    RETURN bound;
END
$$;

CREATE OR REPLACE FUNCTION harvestd.me() RETURNS harvestd.binding
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT binding
    FROM harvestd.binding AS binding
    WHERE binding.pid = pg_backend_pid()
      AND binding.seat = session_user
      AND binding.backend_start = (SELECT mine.backend_start
                                   FROM pg_stat_get_activity(pg_backend_pid()) AS mine)
      AND (current_setting('transaction_isolation') = 'read committed'
           OR binding.xmax IN ('0', binding.xmin))
$$;

CREATE OR REPLACE FUNCTION harvestd_api.tenant() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT binding.tenant_id
    FROM harvestd.binding AS binding
    WHERE binding.pid = pg_backend_pid()
      AND binding.seat = session_user
      AND binding.backend_start = (SELECT mine.backend_start
                                   FROM pg_stat_get_activity(pg_backend_pid()) AS mine)
      AND (current_setting('transaction_isolation') = 'read committed'
           OR binding.xmax IN ('0', binding.xmin))
$$;
