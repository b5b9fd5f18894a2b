-- breaking: no
-- The three tables that the application may have made already (adoption): a fresh database
-- gets the shape that an adopted one ends with.  Every column beyond the specification's has a
-- default or is nullable, so that the application's own INSERTs go on working.
-- Times that the application stored without a zone are UTC.
SET LOCAL timezone = 'UTC';

CREATE TABLE IF NOT EXISTS public.tenant (
    id         text        NOT NULL,
    name       text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenant_pkey PRIMARY KEY (id)
);
ALTER TABLE public.tenant
    ADD COLUMN IF NOT EXISTS name       text        NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS runs_max   integer,
    ADD COLUMN IF NOT EXISTS paused_at  timestamptz;

CREATE TABLE IF NOT EXISTS public.tenant_data_source_config (
    id          text        NOT NULL,
    tenant_id   text        NOT NULL,
    data_source text        NOT NULL,
    key         text        NOT NULL,
    value       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenant_data_source_config_pkey PRIMARY KEY (id),
    CONSTRAINT tenant_data_source_config_tenant_id_fkey
        FOREIGN KEY (tenant_id) REFERENCES public.tenant (id) ON DELETE CASCADE ON UPDATE CASCADE
);
ALTER TABLE public.tenant_data_source_config
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX IF NOT EXISTS tenant_data_source_config_tenant_id_data_source_key_key
    ON public.tenant_data_source_config (tenant_id, data_source, key);

CREATE TABLE IF NOT EXISTS public.data_source_run (
    id                     text        NOT NULL,
    tenant_id              text        NOT NULL,
    data_source            text        NOT NULL,
    script                 text        NOT NULL,
    status                 public."DataSourceRunStatus" NOT NULL,
    started_at             timestamptz NOT NULL DEFAULT now(),
    completed_at           timestamptz,
    error                  text,
    last_fetched_data_date timestamptz,
    CONSTRAINT data_source_run_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX IF NOT EXISTS data_source_run_tenant_id_data_source_script_key
    ON public.data_source_run (tenant_id, data_source, script);
CREATE INDEX IF NOT EXISTS data_source_run_tenant_id_idx
    ON public.data_source_run (tenant_id);
CREATE INDEX IF NOT EXISTS data_source_run_data_source_idx
    ON public.data_source_run (data_source);
CREATE INDEX IF NOT EXISTS data_source_run_tenant_id_data_source_idx
    ON public.data_source_run (tenant_id, data_source);

-- Without USING, and with the session's zone set to UTC, no table is rewritten for its times.
-- Only columns of the specification: what else the application keeps there is its own business.
DO $$
DECLARE
    zoneless record;
    dependent text;
BEGIN
    FOR zoneless IN
        SELECT attribute.attrelid, attribute.attrelid::regclass AS place, attribute.attname AS name,
               attribute.attnum AS number
        FROM (VALUES ('public.tenant'::regclass, 'created_at'),
                     ('public.tenant_data_source_config', 'created_at'),
                     ('public.tenant_data_source_config', 'updated_at'),
                     ('public.data_source_run', 'started_at'),
                     ('public.data_source_run', 'completed_at'),
                     ('public.data_source_run', 'last_fetched_data_date')) AS ours (place, name)
        JOIN pg_attribute AS attribute
          ON attribute.attrelid = ours.place AND attribute.attname = ours.name
        WHERE NOT attribute.attisdropped
          AND attribute.atttypid = 'timestamp'::regtype
        ORDER BY attribute.attrelid::regclass::text, attribute.attnum
    LOOP
        SELECT rewrite.ev_class::regclass::text
        INTO dependent
        FROM pg_depend AS dependency
        JOIN pg_rewrite AS rewrite ON rewrite.oid = dependency.objid
        WHERE dependency.classid = 'pg_rewrite'::regclass
          AND dependency.refclassid = 'pg_class'::regclass
          AND dependency.refobjid = zoneless.attrelid
          AND dependency.refobjsubid = zoneless.number
        ORDER BY 1
        LIMIT 1;
        IF dependent IS NOT NULL THEN
            RAISE EXCEPTION 'the view % depends on %.%', dependent, zoneless.place, zoneless.name
                USING ERRCODE = 'HD010',
                      HINT = 'drop the view, run harvestd migrate, and create it again';
        END IF;
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE timestamptz',
                       zoneless.place, zoneless.name);
    END LOOP;
END
$$;

-- Defaults are set here, not above, so that an adopted table gets them too.
ALTER TABLE public.tenant
    ALTER COLUMN id SET DEFAULT gen_random_uuid()::text,
    ALTER COLUMN name SET DEFAULT '',
    ALTER COLUMN created_at SET DEFAULT now();
ALTER TABLE public.tenant_data_source_config
    ALTER COLUMN id SET DEFAULT gen_random_uuid()::text,
    ALTER COLUMN created_at SET DEFAULT now(),
    ALTER COLUMN updated_at SET DEFAULT now();
ALTER TABLE public.data_source_run
    ALTER COLUMN id SET DEFAULT gen_random_uuid()::text,
    ALTER COLUMN status SET DEFAULT 'PENDING',
    ALTER COLUMN started_at SET DEFAULT now(),
    ADD COLUMN IF NOT EXISTS run_no       bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN IF NOT EXISTS due_at       timestamptz     NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS not_before   timestamptz     NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS fence        bigint          NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS replica_id   uuid,
    ADD COLUMN IF NOT EXISTS origin       timestamptz,
    ADD COLUMN IF NOT EXISTS covered      tstzmultirange  NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS failures     integer         NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS blocked_by   text,
    ADD COLUMN IF NOT EXISTS reason       text,
    ADD COLUMN IF NOT EXISTS retired_at   timestamptz,
    ADD COLUMN IF NOT EXISTS rows_written bigint          NOT NULL DEFAULT 0,
    ADD CONSTRAINT held_only_while_running CHECK (replica_id IS NULL OR status = 'RUNNING'),
    ADD CONSTRAINT fence_never_negative    CHECK (fence >= 0),
    -- Nothing that changes is indexed, so that updates stay HOT (research: perf 1.6).
    SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE UNIQUE INDEX data_source_run_run_no_key ON public.data_source_run (run_no);

-- `repository.ts` of the application's own collector is our `repository`, where that is free.
UPDATE public.data_source_run AS run
SET script = regexp_replace(run.script, '\.(ts|js)$', '')
WHERE run.script ~ '\.(ts|js)$'
  AND NOT EXISTS (
      SELECT FROM public.data_source_run AS other
      WHERE other.tenant_id = run.tenant_id
        AND other.data_source = run.data_source
        AND other.run_no <> run.run_no
        AND regexp_replace(other.script, '\.(ts|js)$', '')
            = regexp_replace(run.script, '\.(ts|js)$', '')
  );
