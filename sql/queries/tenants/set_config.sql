-- set_config: one configuration value of a tenant's data source.
--
-- $1 tenant_id    text
-- $2 data_source  text
-- $3 key          text
-- $4 value        text
-- -> added (false: an earlier value was replaced)
INSERT INTO public.tenant_data_source_config AS config (tenant_id, data_source, key, value)
VALUES ($1::text, $2::text, $3::text, $4::text)
ON CONFLICT (tenant_id, data_source, key)
DO UPDATE SET value = excluded.value, updated_at = now()
RETURNING config.xmax = 0 AS added;
