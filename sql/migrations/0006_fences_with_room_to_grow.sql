-- breaking: no
-- A fence at the end of its type cannot be raised: no claim, takeover or retirement that meets
-- such a row would go through, for the runs of all tenants in the same statement.

UPDATE public.data_source_run
SET fence = 4611686018427387904
WHERE fence > 4611686018427387904;
ALTER TABLE public.data_source_run
    ADD CONSTRAINT fence_with_room_to_grow CHECK (fence <= 4611686018427387904);
