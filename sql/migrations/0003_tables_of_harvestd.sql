-- breaking: no
-- What harvestd keeps for itself.  Plugin SQL has no right on this schema.

CREATE TABLE harvestd.installation (
    only_one          boolean     NOT NULL DEFAULT true,
    hex               text        NOT NULL,
    system_identifier bigint      NOT NULL,
    database_oid      oid         NOT NULL,
    -- 'epoch', not '-infinity': asyncpg hands that out as a moment without a zone
    forced_at         timestamptz NOT NULL DEFAULT 'epoch',
    woken_at          timestamptz NOT NULL DEFAULT 'epoch',
    CONSTRAINT installation_pkey PRIMARY KEY (only_one),
    CONSTRAINT there_is_only_one CHECK (only_one)
);
COMMENT ON TABLE harvestd.installation IS
    'Which server and database these rows belong to; a clone differs and makes its own roles.';

CREATE TABLE harvestd.replica (
    replica_id   uuid        NOT NULL,
    host         text        NOT NULL,
    pid          integer     NOT NULL,
    version      text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dead_at      timestamptz,
    CONSTRAINT replica_pkey PRIMARY KEY (replica_id)
) WITH (fillfactor = 50);

CREATE TABLE harvestd.seat (
    seat_no    integer     NOT NULL,
    replica_id uuid,
    leased_at  timestamptz,
    CONSTRAINT seat_pkey PRIMARY KEY (seat_no)
);

-- UNLOGGED: backends die with the server, so no binding is worth anything after a crash.
CREATE UNLOGGED TABLE harvestd.binding (
    pid           integer     NOT NULL,
    seat          name        NOT NULL,
    backend_start timestamptz NOT NULL,
    run_no        bigint      NOT NULL,
    fence         bigint      NOT NULL,
    replica_id    uuid        NOT NULL,
    tenant_id     text        NOT NULL,
    data_source   text        NOT NULL,
    script        text        NOT NULL,
    handed_from   timestamptz,
    covers        tstzrange,
    CONSTRAINT binding_pkey PRIMARY KEY (pid)
) WITH (fillfactor = 50);

CREATE TABLE harvestd.bookmark (
    tenant_id   text        NOT NULL,
    data_source text        NOT NULL,
    script      text        NOT NULL,
    name        text        NOT NULL,
    value       jsonb       NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT bookmark_pkey PRIMARY KEY (tenant_id, data_source, script, name)
);

CREATE TABLE harvestd.config_change (
    change_no bigint      GENERATED ALWAYS AS IDENTITY,
    -- null: everything may have changed (TRUNCATE)
    tenant_id text,
    xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
    noted_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT config_change_pkey PRIMARY KEY (change_no)
);

CREATE TABLE harvestd.source_schema (
    data_source text        NOT NULL,
    schema_hash text        NOT NULL,
    hex         text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT source_schema_pkey PRIMARY KEY (data_source)
);

CREATE TABLE harvestd.run_history (
    ended_at     timestamptz NOT NULL,
    run_no       bigint      NOT NULL,
    fence        bigint      NOT NULL,
    tenant_id    text        NOT NULL,
    data_source  text        NOT NULL,
    script       text        NOT NULL,
    replica_id   uuid,
    plugin_hash  text,
    started_at   timestamptz NOT NULL,
    outcome      text        NOT NULL,
    reason       text,
    error        text,
    windows      integer     NOT NULL DEFAULT 0,
    rows_written bigint      NOT NULL DEFAULT 0,
    covered      tstzmultirange NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (ended_at);
CREATE TABLE harvestd.run_history_default PARTITION OF harvestd.run_history DEFAULT;
CREATE INDEX run_history_run_no_ended_at_idx ON harvestd.run_history (run_no, ended_at);

-- Partitions by month make retention a DROP; rows land in the default one until theirs exists.
-- The zone is fixed, since adding a month goes by the session's; definer, since a partition can
-- be made only by the owner; the lock, since two replicas may call it at the same moment.
CREATE FUNCTION harvestd.make_history_partitions() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
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
