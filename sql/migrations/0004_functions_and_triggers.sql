-- breaking: no
-- What the server itself enforces, whatever plugin SQL or another program does.
-- Every definer function fixes its search_path: the caller's could shadow our names.

-- The binding of the calling backend.  The key is login, pid and backend start: a pid alone is
-- reused by the system, and a login alone is shared by its two connections.
CREATE FUNCTION harvestd.me() RETURNS harvestd.binding
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT binding
    FROM harvestd.binding AS binding
    WHERE binding.pid = pg_backend_pid()
      AND binding.seat = session_user
      AND binding.backend_start = (SELECT mine.backend_start
                                   FROM pg_stat_get_activity(pg_backend_pid()) AS mine)
$$;

CREATE FUNCTION harvestd_api.tenant() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT binding.tenant_id
    FROM harvestd.binding AS binding
    WHERE binding.pid = pg_backend_pid()
      AND binding.seat = session_user
      AND binding.backend_start = (SELECT mine.backend_start
                                   FROM pg_stat_get_activity(pg_backend_pid()) AS mine)
$$;

-- The bound run's row, locked; HD001 where its fence has grown since the binding.
-- NO KEY UPDATE: weaker modes let a revived writer commit after a takeover.
CREATE FUNCTION harvestd.hold(bound harvestd.binding) RETURNS public.data_source_run
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held public.data_source_run;
BEGIN
    SELECT run.* INTO held
    FROM public.data_source_run AS run
    WHERE run.run_no = bound.run_no
      AND run.fence = bound.fence
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'HD001';
    END IF;
    RETURN held;
END
$$;

CREATE FUNCTION harvestd_api.guard() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound harvestd.binding := harvestd.me();
BEGIN
    IF bound.data_source IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        RAISE EXCEPTION 'writes only to the own schema, not to %', TG_TABLE_SCHEMA
            USING ERRCODE = 'HD003';
    END IF;
    PERFORM harvestd.hold(bound);
    RETURN NULL;
END
$$;

-- Cover source time up to `at` together with whatever this transaction wrote.
CREATE FUNCTION harvestd_api.checkpoint(at timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound   harvestd.binding := harvestd.me();
    held    public.data_source_run := harvestd.hold(bound);
    reached timestamptz := upper(held.covered * tstzmultirange(bound.covers));
    piece   tstzmultirange;
BEGIN
    IF bound.covers IS NULL THEN
        RAISE EXCEPTION 'a snapshot script does not checkpoint' USING ERRCODE = 'HD002';
    END IF;
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
        last_fetched_data_date = upper(run.covered + piece)
    WHERE run.run_no = held.run_no;
END
$$;

CREATE FUNCTION harvestd_api.bookmark(wanted text) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT bookmark.value
    FROM harvestd.me() AS bound
    JOIN harvestd.bookmark AS bookmark
      ON bookmark.tenant_id = bound.tenant_id
     AND bookmark.data_source = bound.data_source
     AND bookmark.script = bound.script
     AND bookmark.name = wanted
$$;

CREATE FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound harvestd.binding := harvestd.me();
BEGIN
    PERFORM harvestd.hold(bound);
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

-- The specification's manual intervention: `last_fetched_data_date` set by hand is obeyed.
-- Earlier cuts the ledger there, later covers up to there, NULL is a reset, the future is now.
CREATE FUNCTION harvestd.obey_hand_set_date() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Not least(): least(NULL, now()) is now(), and a reset would become "everything covered".
    -- Whole milliseconds: a JavaScript Date that comes back is then no change.
    wanted timestamptz := date_trunc('milliseconds', CASE
        WHEN NEW.last_fetched_data_date > statement_timestamp() THEN statement_timestamp()
        WHEN NEW.last_fetched_data_date < '0001-01-03 00:00:00+00'
        THEN timestamptz '0001-01-03 00:00:00+00'  -- -infinity, and what Python cannot read
        ELSE NEW.last_fetched_data_date END);
    seen   timestamptz := coalesce(upper(OLD.covered), OLD.origin);
BEGIN
    IF NEW.origin IS NOT NULL THEN
        IF wanted IS NULL THEN
            NEW.covered := '{}';
        ELSIF wanted < seen OR (wanted = seen AND isempty(OLD.covered)) THEN
            NEW.covered := OLD.covered * tstzmultirange(tstzrange(NULL, wanted));
            NEW.origin := least(OLD.origin, wanted);
        ELSE
            NEW.covered := OLD.covered + tstzmultirange(tstzrange(seen, wanted));
        END IF;
    END IF;
    IF wanted IS NULL THEN
        DELETE FROM harvestd.bookmark AS bookmark
        WHERE bookmark.tenant_id = OLD.tenant_id
          AND bookmark.data_source = OLD.data_source
          AND bookmark.script = OLD.script;
    END IF;
    NEW.last_fetched_data_date := wanted;
    NEW.due_at := statement_timestamp();
    NEW.not_before := '-infinity';
    NEW.failures := 0;
    IF OLD.replica_id IS NOT NULL THEN
        NEW.fence := OLD.fence + 1;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER harvestd_hand_set_date
    BEFORE UPDATE OF last_fetched_data_date ON public.data_source_run
    FOR EACH ROW
    WHEN (NEW.last_fetched_data_date IS DISTINCT FROM OLD.last_fetched_data_date
          AND NEW.covered = OLD.covered)
    EXECUTE FUNCTION harvestd.obey_hand_set_date();

-- Another program that sets the status of a held row (the specification's own statement does)
-- does not break the constraint: the row stays RUNNING, and its holder loses the fence.
CREATE FUNCTION harvestd.keep_holder() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.status := 'RUNNING';
    NEW.fence := OLD.fence + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER harvestd_keep_holder
    BEFORE UPDATE OF status ON public.data_source_run
    FOR EACH ROW
    WHEN (OLD.replica_id IS NOT NULL AND NEW.replica_id = OLD.replica_id
          AND NEW.status <> 'RUNNING')
    EXECUTE FUNCTION harvestd.keep_holder();

-- Which tenants' configuration changed.  Definer: the application's role has no right here.
CREATE FUNCTION harvestd.note_config_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO harvestd.config_change (tenant_id) VALUES (NULL);
    ELSIF TG_TABLE_NAME = 'tenant' THEN
        INSERT INTO harvestd.config_change (tenant_id)
        SELECT DISTINCT changed.id FROM changed;
    ELSE
        INSERT INTO harvestd.config_change (tenant_id)
        SELECT DISTINCT changed.tenant_id FROM changed;
    END IF;
    RETURN NULL;
END
$$;
DO $$
DECLARE
    place text;
BEGIN
    FOREACH place IN ARRAY ARRAY['tenant', 'tenant_data_source_config'] LOOP
        EXECUTE format('CREATE TRIGGER harvestd_note_insert AFTER INSERT ON public.%I
            REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
            EXECUTE FUNCTION harvestd.note_config_change()', place);
        EXECUTE format('CREATE TRIGGER harvestd_note_update_new AFTER UPDATE ON public.%I
            REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
            EXECUTE FUNCTION harvestd.note_config_change()', place);
        EXECUTE format('CREATE TRIGGER harvestd_note_update_old AFTER UPDATE ON public.%I
            REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
            EXECUTE FUNCTION harvestd.note_config_change()', place);
        EXECUTE format('CREATE TRIGGER harvestd_note_delete AFTER DELETE ON public.%I
            REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
            EXECUTE FUNCTION harvestd.note_config_change()', place);
        EXECUTE format('CREATE TRIGGER harvestd_note_truncate AFTER TRUNCATE ON public.%I
            FOR EACH STATEMENT
            EXECUTE FUNCTION harvestd.note_config_change()', place);
    END LOOP;
END
$$;

-- Plugin SQL gets EXECUTE on harvestd_api through its role (roles.py); nobody else gets anything.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA harvestd, harvestd_api FROM PUBLIC;
-- Trigger functions of tables that the application writes: checked when the trigger is made,
-- not when it fires, so revoking from PUBLIC takes nothing from the application.
