-- breaking: no
-- Values that nobody could read are refused where they are written, and a run remembers which
-- content of its plugin ran last and how often in a row its holder died.

UPDATE public.tenant SET runs_max = NULL WHERE runs_max < 1;
ALTER TABLE public.tenant
    ADD CONSTRAINT runs_max_at_least_one CHECK (runs_max >= 1);

-- The years that Python's datetime has; another program may have written others, or infinity.
UPDATE public.data_source_run AS run
SET origin  = least(greatest(run.origin, '0001-01-03 00:00:00+00'), '9999-12-29 00:00:00+00'),
    covered = run.covered * '{["0001-01-03 00:00:00+00","9999-12-29 00:00:00+00")}',
    last_fetched_data_date
            = upper(run.covered * '{["0001-01-03 00:00:00+00","9999-12-29 00:00:00+00")}')
WHERE run.origin NOT BETWEEN '0001-01-03 00:00:00+00' AND '9999-12-29 00:00:00+00'
   OR NOT run.covered <@ '{["0001-01-03 00:00:00+00","9999-12-29 00:00:00+00")}';
ALTER TABLE public.data_source_run
    ADD COLUMN plugin_hash text,
    ADD COLUMN deaths      integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT origin_within_years_1_to_9999
        CHECK (origin BETWEEN '0001-01-03 00:00:00+00' AND '9999-12-29 00:00:00+00'),
    ADD CONSTRAINT covered_within_years_1_to_9999
        CHECK (covered <@ '{["0001-01-03 00:00:00+00","9999-12-29 00:00:00+00")}');

-- As before, but for `deaths`: a script that gets on is not one that kills its process.
CREATE OR REPLACE FUNCTION harvestd_api.checkpoint(at timestamptz) RETURNS void
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
        last_fetched_data_date = upper(run.covered + piece),
        deaths = 0
    WHERE run.run_no = held.run_no;
END
$$;

CREATE OR REPLACE FUNCTION harvestd_api.set_bookmark(wanted text, new_value jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound harvestd.binding := harvestd.me();
BEGIN
    PERFORM harvestd.hold(bound);
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
