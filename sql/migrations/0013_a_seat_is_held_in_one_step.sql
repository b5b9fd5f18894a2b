-- breaking: no
-- Each write asked, step by step, which run its backend is bound to and whether that is still as it
-- was claimed, and a checkpoint read the run once more: finding the run and holding it is one step.

-- The binding of this backend, whose run is held as it was claimed until the transaction ends.
CREATE FUNCTION harvestd.hold() RETURNS harvestd.binding
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
    FOR NO KEY UPDATE OF run;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'HD001';
    END IF;
    RETURN bound;
END
$$;

CREATE OR REPLACE FUNCTION harvestd_api.guard() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    bound harvestd.binding := harvestd.hold();
BEGIN
    IF bound.data_source <> TG_TABLE_SCHEMA THEN
        RAISE EXCEPTION 'writes only to the own schema, not to %', TG_TABLE_SCHEMA
            USING ERRCODE = 'HD003';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION harvestd_api.checkpoint(at timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    bound   harvestd.binding := harvestd.hold();
    reached timestamptz;
    piece   tstzmultirange;
BEGIN
    IF bound.covers IS NULL THEN
        RAISE EXCEPTION 'a snapshot script does not checkpoint' USING ERRCODE = 'HD002';
    END IF;
    SELECT upper(run.covered * tstzmultirange(bound.covers)) INTO reached
    FROM public.data_source_run AS run
    WHERE run.run_no = bound.run_no;
    IF at IS NULL OR at <= bound.handed_from OR at > upper(bound.covers) OR at < reached THEN
        RAISE EXCEPTION 'checkpoint % lies outside (%, %] or before %',
            at, bound.handed_from, upper(bound.covers), reached USING ERRCODE = 'HD002';
    END IF;
    IF at <= lower(bound.covers) THEN
        RETURN;  -- still within the lookback, which is read again and never covered anew
    END IF;
    piece := tstzmultirange(tstzrange(lower(bound.covers), at));
    UPDATE public.data_source_run AS run
    SET covered = run.covered + piece,
        last_fetched_data_date = upper(run.covered + piece),
        deaths = 0
    WHERE run.run_no = bound.run_no;
END
$$;

CREATE OR REPLACE FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    bound harvestd.binding := harvestd.hold();
BEGIN
    UPDATE public.data_source_run AS run SET deaths = 0
    WHERE run.run_no = bound.run_no AND run.deaths > 0;
    IF new_value IS NULL THEN
        DELETE FROM harvestd.bookmark AS bookmark
        WHERE bookmark.tenant_id = bound.tenant_id
          AND bookmark.data_source = bound.data_source
          AND bookmark.script = bound.script
          AND bookmark.name = wanted;
        RETURN;
    END IF;
    INSERT INTO harvestd.bookmark AS bookmark (tenant_id, data_source, script, name, value)
    VALUES (bound.tenant_id, bound.data_source, bound.script, wanted, new_value)
    ON CONFLICT (tenant_id, data_source, script, name)
    DO UPDATE SET value = excluded.value, updated_at = now();
END
$$;

DROP FUNCTION harvestd.hold(harvestd.binding);
REVOKE EXECUTE ON FUNCTION harvestd.hold() FROM PUBLIC;
