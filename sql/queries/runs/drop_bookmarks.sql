-- drop_bookmarks: forget what a tenant's scripts keep beside the ledger.
--
-- $1 tenant_id    text
-- $2 data_source  text   null: all
-- $3 script       text   null: all
-- -> data_source, script, name
--
-- After reset_runs in one transaction, never in one statement with it: that one may have waited
-- for a holder whose last bookmarks its snapshot does not show.
DELETE FROM harvestd.bookmark AS bookmark
WHERE bookmark.tenant_id = $1::text
  AND ($2::text IS NULL OR bookmark.data_source = $2::text)
  AND ($3::text IS NULL OR bookmark.script = $3::text)
RETURNING bookmark.data_source, bookmark.script, bookmark.name;
