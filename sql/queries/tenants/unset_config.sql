-- unset_config: remove a value, or all values of a data source, which disables it.
--
-- $1 tenant_id    text
-- $2 data_source  text
-- $3 key          text   null: all keys
-- -> key
DELETE FROM public.tenant_data_source_config AS config
WHERE config.tenant_id = $1::text
  AND config.data_source = $2::text
  AND ($3::text IS NULL OR config.key = $3::text)
RETURNING config.key;
