-- see_trial: how far a trial came, and what it would keep beside the rows.
--
-- $1 run_no       bigint   its own run row
-- $2 tenant_id    text
-- $3 data_source  text
-- $4 script       text
-- -> checkpoint (null: none was made), bookmarks (names of those that this transaction set)
--
-- age: 0 for our own transaction, below it for our savepoints.
SELECT upper(run.covered) AS checkpoint,
       (SELECT coalesce(array_agg(bookmark.name ORDER BY bookmark.name), '{}')
        FROM harvestd.bookmark AS bookmark
        WHERE bookmark.tenant_id = $2::text
          AND bookmark.data_source = $3::text
          AND bookmark.script = $4::text
          AND pg_catalog.age(bookmark.xmin) <= 0) AS bookmarks
FROM public.data_source_run AS run
WHERE run.run_no = $1::bigint;
