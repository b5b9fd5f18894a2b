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
