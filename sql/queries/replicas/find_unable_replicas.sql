-- find_unable_replicas: tenants with a script that some replicas have, and others lack.
--
-- $1 replica_ids  uuid[]   the living
-- -> tenant_id, replica_ids (those of the living that lack a script of the tenant's)
--
-- Where all have the same scripts, which is nearly always, no run is looked at: asked for first,
-- or the planner reads all of them to find none (0.2 s of 500,000).
-- One that has not told its scripts lacks none: comparing with null yields null.
-- What no living replica has makes none of them unable: it is blocked at its tenant's home.
WITH living AS (
    SELECT replica.replica_id, replica.scripts
    FROM harvestd.replica AS replica
    WHERE replica.replica_id = ANY ($1::uuid[])
),
lacking AS MATERIALIZED (
    SELECT split_part(script.name, '/', 1) AS data_source,
           split_part(script.name, '/', 2) AS script,
           living.replica_id
    FROM (SELECT DISTINCT unnest(living.scripts) AS name FROM living) AS script
    CROSS JOIN living
    WHERE script.name <> ALL (living.scripts)
)
SELECT run.tenant_id,
       array_agg(DISTINCT lacking.replica_id) AS replica_ids
FROM lacking
JOIN public.data_source_run AS run
  ON run.data_source = lacking.data_source AND run.script = lacking.script
WHERE run.retired_at IS NULL
  AND EXISTS (SELECT FROM lacking)
GROUP BY run.tenant_id;
