-- list_config: the keys that are set and their age, never a value.
--
-- $1 tenant_id  text   null: all tenants
-- -> tenant_id, data_source, key, updated_at
SELECT config.tenant_id,
       config.data_source,
       config.key,
       least(greatest(config.updated_at, '0001-01-03 00:00:00+00'), '9999-12-29 00:00:00+00')
           AS updated_at
FROM public.tenant_data_source_config AS config
WHERE $1::text IS NULL OR config.tenant_id = $1::text
ORDER BY config.tenant_id, config.data_source, config.key;
