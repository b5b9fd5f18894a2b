-- sum_rows_written: rows that scripts have written since their runs were enrolled.
-- -> rows_written
SELECT coalesce(sum(run.rows_written), 0)::bigint AS rows_written
FROM public.data_source_run AS run;
