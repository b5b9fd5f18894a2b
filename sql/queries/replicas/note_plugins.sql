-- note_plugins: what this replica can run, and which plugin files and schemas it cannot use.
--
-- $1 replica_id  uuid
-- $2 problems    text[]   what, why and next of each; none: all is well
-- $3 scripts     text[]   each source/script of its catalog, sorted
-- -> replica_id
UPDATE harvestd.replica AS replica
SET plugin_problems = $2::text[],
    scripts         = $3::text[]
WHERE replica.replica_id = $1::uuid
  AND (replica.plugin_problems <> $2::text[] OR replica.scripts IS DISTINCT FROM $3::text[])
RETURNING replica.replica_id;
