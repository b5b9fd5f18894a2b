-- see_connections: how many connections the server takes of roles like ours, for how many of us.
-- -> connections_max, replicas (alive, this one among them)
SELECT current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer
           - coalesce(current_setting('reserved_connections', true)::integer, 0)
           AS connections_max,
       (SELECT count(*) FROM harvestd.replica AS replica WHERE replica.dead_at IS NULL) AS replicas;
