-- breaking: no
-- Which plugin files and schemas a replica cannot use: the operator asks the database, wherever
-- he is, and need not find the one line of a log.

ALTER TABLE harvestd.replica
    ADD COLUMN plugin_problems text[] NOT NULL DEFAULT '{}';
