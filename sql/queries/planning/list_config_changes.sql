-- list_config_changes: tenants whose configuration changed since this replica's mark.
--
-- $1 mark  text   xid8 from the last call
-- -> mark (for the next call), tenant_ids (null inside: everything may have changed)
--
-- The mark is the oldest transaction still open at this snapshot: a note whose transaction
-- began earlier and commits later is seen by a later call (research: skeleton A.13).
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark,
       (SELECT array_agg(DISTINCT note.tenant_id)
        FROM harvestd.config_change AS note
        WHERE note.xid >= $1::text::xid8) AS tenant_ids;
