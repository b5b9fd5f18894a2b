-- note_migration: this migration was applied, in the transaction that applied it.
--
-- $1 number    integer
-- $2 name      text      its file, without the ending
-- $3 checksum  text      sha256 of the file, in hex
-- $4 breaking  boolean   whether a harvestd that does not know it must stop
-- $5 version   text      of the harvestd that applied it
-- -> applied_at
INSERT INTO harvestd.schema_migration (number, name, checksum, breaking, version)
VALUES ($1::integer, $2::text, $3::text, $4::boolean, $5::text)
RETURNING applied_at;
