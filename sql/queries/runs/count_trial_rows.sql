-- count_trial_rows: what this very transaction wrote into tables of data sources, by any SQL.
-- -> schema, name, inserted, updated, deleted (a mark of a sweep is an update)
--
-- What was rolled back to a savepoint counts too: the server counts attempts.
SELECT counted.schemaname AS schema,
       counted.relname AS name,
       counted.n_tup_ins AS inserted,
       counted.n_tup_upd AS updated,
       counted.n_tup_del AS deleted
FROM pg_catalog.pg_stat_xact_user_tables AS counted
WHERE counted.schemaname NOT IN ('public', 'harvestd', 'harvestd_api')
  AND counted.schemaname !~ '^pg_'
  AND counted.n_tup_ins + counted.n_tup_upd + counted.n_tup_del > 0
ORDER BY counted.schemaname, counted.relname;
