-- note_source_schema: this content was applied and finished for the roles of this database.
--
-- $1 data_source  text
-- $2 schema_hash  text
-- $3 hex          text
-- -> data_source
INSERT INTO harvestd.source_schema AS applied (data_source, schema_hash, hex)
VALUES ($1::text, $2::text, $3::text)
ON CONFLICT (data_source)
DO UPDATE SET schema_hash = excluded.schema_hash, hex = excluded.hex, applied_at = now()
RETURNING applied.data_source;
