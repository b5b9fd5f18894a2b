-- read_env: the configuration of these tenants, opened only when a tenant's turn comes.
--
-- $1 tenant_ids  text[]   1 .. 100
-- $2 bytes_max   integer  of all keys and values of a tenant's data source
-- -> tenant_id, data_source, key, fits (whether it is within that), value (null unless it fits)
--
-- What is too large is not even sent: one such value would cost the other tenants of the page
-- their turn.
SELECT config.tenant_id,
       config.data_source,
       config.key,
       config.bytes <= $2::integer AS fits,
       CASE WHEN config.bytes <= $2::integer THEN config.value END AS value
FROM (SELECT stored.tenant_id,
             stored.data_source,
             stored.key,
             stored.value,
             sum(octet_length(stored.key) + octet_length(stored.value))
                 OVER (PARTITION BY stored.tenant_id, stored.data_source) AS bytes
      FROM public.tenant_data_source_config AS stored
      WHERE stored.tenant_id = ANY ($1::text[])) AS config
ORDER BY config.tenant_id, config.data_source, config.key;
