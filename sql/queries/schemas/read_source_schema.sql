-- read_source_schema: what was last applied for a data source.
--
-- $1 data_source  text
-- -> schema_hash, hex
SELECT applied.schema_hash,
       applied.hex
FROM harvestd.source_schema AS applied
WHERE applied.data_source = $1::text;
