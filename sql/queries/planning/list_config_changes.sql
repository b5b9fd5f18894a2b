-- list_config_changes: tenants whose configuration changed since this replica's mark.
--
-- $1 mark  text   xid8 from the last call; '0': every note that is kept
-- -> mark (for the next call), change_nos, their tenant_ids (null: all may have changed) and
--    noted_ats
--
-- The mark is the oldest transaction still open at this snapshot: a note whose transaction
-- began earlier and commits later is seen by a later call (research: skeleton A.13).  So one may
-- be answered again, for as long as a transaction stays open: the caller knows it by its number.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark,
       coalesce(array_agg(note.change_no), '{}') AS change_nos,
       coalesce(array_agg(note.tenant_id), '{}') AS tenant_ids,
       coalesce(array_agg(note.noted_at), '{}') AS noted_ats
FROM harvestd.config_change AS note
WHERE note.xid >= $1::text::xid8;
