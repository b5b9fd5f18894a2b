-- note_installation: which server and database these rows belong to from now on.
--
-- $1 hex                text     8 hex digits, part of the names of its roles
-- $2 system_identifier  bigint
-- $3 database_oid       oid
-- -> hex
INSERT INTO harvestd.installation AS installation (hex, system_identifier, database_oid)
VALUES ($1::text, $2::bigint, $3::oid)
ON CONFLICT (only_one)
DO UPDATE SET hex = excluded.hex,
              system_identifier = excluded.system_identifier,
              database_oid = excluded.database_oid
RETURNING installation.hex;
