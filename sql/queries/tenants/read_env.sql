-- read_env: the configuration of these tenants, opened only when a tenant's turn comes.
--
-- $1 tenant_ids  text[]   1 .. 100
-- -> tenant_id, data_source, key, value
SELECT config.tenant_id,
       config.data_source,
       config.key,
       config.value
FROM public.tenant_data_source_config AS config
WHERE config.tenant_id = ANY ($1::text[])
ORDER BY config.tenant_id, config.data_source, config.key;
