-- list_migrations: what was applied to this database.
-- -> number, name, checksum, breaking
SELECT applied.number,
       applied.name,
       applied.checksum,
       applied.breaking
FROM harvestd.schema_migration AS applied
ORDER BY applied.number;
