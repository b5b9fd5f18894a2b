-- read_env_of: the configuration of one data source of a tenant, for `harvestd try`.
--
-- $1 tenant_id    text
-- $2 data_source  text
-- -> data_source, key, value
SELECT config.data_source,
       config.key,
       config.value
FROM public.tenant_data_source_config AS config
WHERE config.tenant_id = $1::text
  AND config.data_source = $2::text
ORDER BY config.key;
