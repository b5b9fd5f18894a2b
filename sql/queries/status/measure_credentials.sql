-- measure_credentials: how old the oldest configuration value of each data source is.
-- -> data_source, age_seconds
SELECT config.data_source,
       extract(epoch FROM now() - min(config.updated_at))::float8 AS age_seconds
FROM public.tenant_data_source_config AS config
GROUP BY config.data_source
ORDER BY config.data_source;
