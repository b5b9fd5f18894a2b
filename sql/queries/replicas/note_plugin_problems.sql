-- note_plugin_problems: which plugin files and schemas this replica cannot use.
--
-- $1 replica_id  uuid
-- $2 problems    text[]   what, why and next of each; none: all is well
-- -> replica_id
UPDATE harvestd.replica AS replica
SET plugin_problems = $2::text[]
WHERE replica.replica_id = $1::uuid
  AND replica.plugin_problems <> $2::text[]
RETURNING replica.replica_id;
