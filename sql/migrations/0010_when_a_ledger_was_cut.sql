-- breaking: no
-- A ledger only grows, but for a reset, a backfill and a date set by hand.  With the moment of the
-- last of these `harvestd verify` can tell what was taken out on purpose from what was lost.
-- For rows that are there already: this moment, since nothing tells what was done to them before.

ALTER TABLE public.data_source_run
    ADD COLUMN cut_at timestamptz NOT NULL DEFAULT now();

-- As before, but for `cut_at`, and `deaths` as the other acts of an operator have it.
CREATE OR REPLACE FUNCTION harvestd.obey_hand_set_date() RETURNS trigger
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
