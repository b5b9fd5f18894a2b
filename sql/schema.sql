-- The schema that all migrations together make, on an empty database.  Generated: change the
-- migrations and run `make schema`.  Roles and their rights are not here: see database/roles.py.

CREATE SCHEMA harvestd;

CREATE SCHEMA harvestd_api;

CREATE TYPE public."DataSourceRunStatus" AS ENUM (
    'RUNNING',
    'COMPLETED',
    'FAILED',
    'PENDING',
    'WAITING'
);

CREATE UNLOGGED TABLE harvestd.binding (
    pid integer NOT NULL,
    seat name NOT NULL,
    backend_start timestamp with time zone NOT NULL,
    run_no bigint NOT NULL,
    fence bigint NOT NULL,
    replica_id uuid NOT NULL,
    tenant_id text NOT NULL,
    data_source text NOT NULL,
    script text NOT NULL,
    handed_from timestamp with time zone,
    covers tstzrange
)
WITH (fillfactor='50');

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
      AND (current_setting('transaction_isolation') = 'read committed'
           OR binding.xmax IN ('0', binding.xmin))
    FOR NO KEY UPDATE OF run;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'HD001';
    END IF;
    RETURN bound;
END
$$;

CREATE FUNCTION harvestd.keep_holder() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    NEW.status := 'RUNNING';
    NEW.fence := OLD.fence + 1;
    RETURN NEW;
END
$$;

CREATE FUNCTION harvestd.make_history_partitions() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
    month timestamptz;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('harvestd.make_history_partitions', 0));
    FOR month IN
        SELECT date_trunc('month', now(), 'UTC') + make_interval(months => ahead)
        FROM generate_series(0, 2) AS ahead
    LOOP
        child := 'run_history_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass('harvestd.' || child) IS NOT NULL;
        CONTINUE WHEN EXISTS (
            SELECT FROM harvestd.run_history_default AS late
            WHERE late.ended_at >= month AND late.ended_at < month + interval '1 month'
        );
        EXECUTE format(
            'CREATE TABLE harvestd.%I PARTITION OF harvestd.run_history '
            'FOR VALUES FROM (%L) TO (%L)', child, month, month + interval '1 month');
    END LOOP;
END
$$;

CREATE FUNCTION harvestd.me() RETURNS harvestd.binding
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

CREATE FUNCTION harvestd.note_changed_ids() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO harvestd.config_change (tenant_id)
    (SELECT before.id FROM before EXCEPT SELECT after.id FROM after)
    UNION
    (SELECT after.id FROM after EXCEPT SELECT before.id FROM before);
    RETURN NULL;
END
$$;

CREATE FUNCTION harvestd.note_config_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION harvestd.obey_hand_set_date() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
    NEW.cut_at := clock_timestamp();
    NEW.due_at := statement_timestamp();
    NEW.not_before := '-infinity';
    NEW.failures := 0;
    NEW.deaths := 0;
    IF OLD.replica_id IS NOT NULL THEN
        NEW.fence := OLD.fence + 1;
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION harvestd_api.bookmark(wanted text) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT bookmark.value
    FROM harvestd.me() AS bound
    JOIN harvestd.bookmark AS bookmark
      ON bookmark.tenant_id = bound.tenant_id
     AND bookmark.data_source = bound.data_source
     AND bookmark.script = bound.script
     AND bookmark.name = wanted
$$;

CREATE FUNCTION harvestd_api.checkpoint(at timestamp with time zone) RETURNS void
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

CREATE FUNCTION harvestd_api.empty_schema(wanted text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    place oid;
BEGIN
    CREATE TEMPORARY TABLE harvestd_never_commits (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO pg_temp.harvestd_never_commits VALUES (1), (1);
    SELECT namespace.oid INTO place
    FROM pg_namespace AS namespace
    JOIN pg_roles AS owner ON owner.oid = namespace.nspowner
    WHERE namespace.nspname = wanted
      AND owner.rolname = session_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not the own schema: %', wanted USING ERRCODE = 'HD003';
    END IF;
    EXECUTE format('ALTER SCHEMA %I RENAME TO %I', wanted, 'harvestd_aside_' || place);
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', wanted, session_user);
END
$$;

CREATE FUNCTION harvestd_api.guard() RETURNS trigger
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

CREATE FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) RETURNS void
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

CREATE FUNCTION harvestd_api.tenant() RETURNS text
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

CREATE TABLE harvestd.bookmark (
    tenant_id text NOT NULL,
    data_source text NOT NULL,
    script text NOT NULL,
    name text NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE harvestd.config_change (
    change_no bigint NOT NULL,
    tenant_id text,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE harvestd.config_change ALTER COLUMN change_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME harvestd.config_change_change_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE harvestd.installation (
    only_one boolean DEFAULT true NOT NULL,
    hex text NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    forced_at timestamp with time zone DEFAULT '1970-01-01 05:30:00+05:30'::timestamp with time zone NOT NULL,
    woken_at timestamp with time zone DEFAULT '1970-01-01 05:30:00+05:30'::timestamp with time zone NOT NULL,
    CONSTRAINT there_is_only_one CHECK (only_one)
);

COMMENT ON TABLE harvestd.installation IS 'Which server and database these rows belong to; a clone differs and makes its own roles.';

CREATE TABLE harvestd.replica (
    replica_id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    dead_at timestamp with time zone,
    plugin_problems text[] DEFAULT '{}'::text[] NOT NULL,
    houses boolean DEFAULT false NOT NULL,
    scripts text[],
    lease interval
)
WITH (fillfactor='50');

CREATE TABLE harvestd.run_history (
    ended_at timestamp with time zone NOT NULL,
    run_no bigint NOT NULL,
    fence bigint NOT NULL,
    tenant_id text NOT NULL,
    data_source text NOT NULL,
    script text NOT NULL,
    replica_id uuid,
    plugin_hash text,
    started_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    reason text,
    error text,
    windows integer DEFAULT 0 NOT NULL,
    rows_written bigint DEFAULT 0 NOT NULL,
    covered tstzmultirange DEFAULT '{}'::tstzmultirange NOT NULL
)
PARTITION BY RANGE (ended_at);

CREATE TABLE harvestd.run_history_default (
    ended_at timestamp with time zone CONSTRAINT run_history_ended_at_not_null NOT NULL,
    run_no bigint CONSTRAINT run_history_run_no_not_null NOT NULL,
    fence bigint CONSTRAINT run_history_fence_not_null NOT NULL,
    tenant_id text CONSTRAINT run_history_tenant_id_not_null NOT NULL,
    data_source text CONSTRAINT run_history_data_source_not_null NOT NULL,
    script text CONSTRAINT run_history_script_not_null NOT NULL,
    replica_id uuid,
    plugin_hash text,
    started_at timestamp with time zone CONSTRAINT run_history_started_at_not_null NOT NULL,
    outcome text CONSTRAINT run_history_outcome_not_null NOT NULL,
    reason text,
    error text,
    windows integer DEFAULT 0 CONSTRAINT run_history_windows_not_null NOT NULL,
    rows_written bigint DEFAULT 0 CONSTRAINT run_history_rows_written_not_null NOT NULL,
    covered tstzmultirange DEFAULT '{}'::tstzmultirange CONSTRAINT run_history_covered_not_null NOT NULL
);

CREATE TABLE harvestd.schema_migration (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    breaking boolean NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    version text NOT NULL
);

CREATE TABLE harvestd.seat (
    seat_no integer NOT NULL,
    replica_id uuid,
    leased_at timestamp with time zone
);

CREATE TABLE harvestd.source_schema (
    data_source text NOT NULL,
    schema_hash text NOT NULL,
    hex text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.data_source_run (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    tenant_id text NOT NULL,
    data_source text NOT NULL,
    script text NOT NULL,
    status public."DataSourceRunStatus" DEFAULT 'PENDING'::public."DataSourceRunStatus" NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    completed_at timestamp with time zone,
    error text,
    last_fetched_data_date timestamp with time zone,
    run_no bigint NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    not_before timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    replica_id uuid,
    origin timestamp with time zone,
    covered tstzmultirange DEFAULT '{}'::tstzmultirange NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    blocked_by text,
    reason text,
    retired_at timestamp with time zone,
    rows_written bigint DEFAULT 0 NOT NULL,
    plugin_hash text,
    deaths integer DEFAULT 0 NOT NULL,
    cut_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT covered_within_years_1_to_9999 CHECK ((covered <@ '{["0001-01-03 05:53:28+05:53:28","9999-12-29 05:30:00+05:30")}'::tstzmultirange)),
    CONSTRAINT fence_never_negative CHECK ((fence >= 0)),
    CONSTRAINT fence_with_room_to_grow CHECK ((fence <= '4611686018427387904'::bigint)),
    CONSTRAINT held_only_while_running CHECK (((replica_id IS NULL) OR (status = 'RUNNING'::public."DataSourceRunStatus"))),
    CONSTRAINT origin_within_years_1_to_9999 CHECK (((origin >= '0001-01-03 05:53:28+05:53:28'::timestamp with time zone) AND (origin <= '9999-12-29 05:30:00+05:30'::timestamp with time zone)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02');

ALTER TABLE public.data_source_run ALTER COLUMN run_no ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.data_source_run_run_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.tenant (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    runs_max integer,
    paused_at timestamp with time zone,
    CONSTRAINT runs_max_at_least_one CHECK ((runs_max >= 1))
);

CREATE TABLE public.tenant_data_source_config (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    tenant_id text NOT NULL,
    data_source text NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY harvestd.run_history ATTACH PARTITION harvestd.run_history_default DEFAULT;

ALTER TABLE ONLY harvestd.binding
    ADD CONSTRAINT binding_pkey PRIMARY KEY (pid);

ALTER TABLE ONLY harvestd.bookmark
    ADD CONSTRAINT bookmark_pkey PRIMARY KEY (tenant_id, data_source, script, name);

ALTER TABLE ONLY harvestd.config_change
    ADD CONSTRAINT config_change_pkey PRIMARY KEY (change_no);

ALTER TABLE ONLY harvestd.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_one);

ALTER TABLE ONLY harvestd.replica
    ADD CONSTRAINT replica_pkey PRIMARY KEY (replica_id);

ALTER TABLE ONLY harvestd.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY harvestd.seat
    ADD CONSTRAINT seat_pkey PRIMARY KEY (seat_no);

ALTER TABLE ONLY harvestd.source_schema
    ADD CONSTRAINT source_schema_pkey PRIMARY KEY (data_source);

ALTER TABLE ONLY public.data_source_run
    ADD CONSTRAINT data_source_run_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenant_data_source_config
    ADD CONSTRAINT tenant_data_source_config_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenant
    ADD CONSTRAINT tenant_pkey PRIMARY KEY (id);

CREATE INDEX run_history_run_no_ended_at_idx ON ONLY harvestd.run_history USING btree (run_no, ended_at);

CREATE INDEX run_history_default_run_no_ended_at_idx ON harvestd.run_history_default USING btree (run_no, ended_at);

CREATE INDEX data_source_run_data_source_idx ON public.data_source_run USING btree (data_source);

CREATE UNIQUE INDEX data_source_run_run_no_key ON public.data_source_run USING btree (run_no);

CREATE INDEX data_source_run_tenant_id_data_source_idx ON public.data_source_run USING btree (tenant_id, data_source);

CREATE UNIQUE INDEX data_source_run_tenant_id_data_source_script_key ON public.data_source_run USING btree (tenant_id, data_source, script);

CREATE INDEX data_source_run_tenant_id_idx ON public.data_source_run USING btree (tenant_id);

CREATE UNIQUE INDEX tenant_data_source_config_tenant_id_data_source_key_key ON public.tenant_data_source_config USING btree (tenant_id, data_source, key);

CREATE INDEX tenant_paused_idx ON public.tenant USING btree (id) WHERE (paused_at IS NOT NULL);

ALTER INDEX harvestd.run_history_run_no_ended_at_idx ATTACH PARTITION harvestd.run_history_default_run_no_ended_at_idx;

CREATE TRIGGER harvestd_hand_set_date BEFORE UPDATE OF last_fetched_data_date ON public.data_source_run FOR EACH ROW WHEN (((new.last_fetched_data_date IS DISTINCT FROM old.last_fetched_data_date) AND (new.covered = old.covered))) EXECUTE FUNCTION harvestd.obey_hand_set_date();

CREATE TRIGGER harvestd_keep_holder BEFORE UPDATE OF status ON public.data_source_run FOR EACH ROW WHEN (((old.replica_id IS NOT NULL) AND (new.replica_id = old.replica_id) AND (new.status <> 'RUNNING'::public."DataSourceRunStatus"))) EXECUTE FUNCTION harvestd.keep_holder();

CREATE TRIGGER harvestd_note_delete AFTER DELETE ON public.tenant REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_delete AFTER DELETE ON public.tenant_data_source_config REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_insert AFTER INSERT ON public.tenant REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_insert AFTER INSERT ON public.tenant_data_source_config REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_truncate AFTER TRUNCATE ON public.tenant FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_truncate AFTER TRUNCATE ON public.tenant_data_source_config FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_update AFTER UPDATE ON public.tenant REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_changed_ids();

CREATE TRIGGER harvestd_note_update_new AFTER UPDATE ON public.tenant_data_source_config REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

CREATE TRIGGER harvestd_note_update_old AFTER UPDATE ON public.tenant_data_source_config REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION harvestd.note_config_change();

ALTER TABLE ONLY public.tenant_data_source_config
    ADD CONSTRAINT tenant_data_source_config_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenant(id) ON UPDATE CASCADE ON DELETE CASCADE;

REVOKE ALL ON FUNCTION harvestd.hold() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.keep_holder() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.make_history_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.me() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.note_changed_ids() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.note_config_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd.obey_hand_set_date() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.bookmark(wanted text) FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.checkpoint(at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.empty_schema(wanted text) FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.guard() FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION harvestd_api.tenant() FROM PUBLIC;
