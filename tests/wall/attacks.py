"""What a script of one tenant sends against another's, by what it is after.

Each is one transaction of as many statements; braces hold what a script can find out anyway: names
of roles, process ids.  Whatever it answers, the other tenant's secret is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable

SECRET = "47110815"
"""Of the other tenant: as a word and as a number, in rows, and in the text of its query."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS {source}.note (
    tenant_id text NOT NULL, id int NOT NULL, body text, CONSTRAINT note_pkey
    PRIMARY KEY (tenant_id, id));
CREATE TABLE IF NOT EXISTS {source}.remark (
    tenant_id text NOT NULL, note_id int, remark_no bigserial, CONSTRAINT remark_note FOREIGN KEY
    (tenant_id, note_id) REFERENCES {source}.note (tenant_id, id) ON UPDATE CASCADE
    ON DELETE CASCADE);
CREATE OR REPLACE VIEW {source}.words WITH (security_invoker) AS
    SELECT tenant_id, id, body FROM {source}.note;
"""

# Answered with an error: a missing right, a fence, a policy, or that it does not exist for seats.
REFUSED: dict[str, Iterable[str]] = {
    "another tenant's rows": (
        "INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9)",
        "INSERT INTO probe.note (tenant_id, id) SELECT 'globex', 9",
        "INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 1)"
        " ON CONFLICT (tenant_id, id) DO UPDATE SET body = 'x'",
        "INSERT INTO probe.words (tenant_id, id) VALUES ('globex', 9)",
        "MERGE INTO probe.note USING (SELECT 1) AS s ON false"
        " WHEN NOT MATCHED THEN INSERT (tenant_id, id) VALUES ('globex', 9)",
        "WITH w AS (INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9) RETURNING 1)"
        " SELECT * FROM w",
        "DO $$ BEGIN INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9); END $$",
        "EXPLAIN ANALYZE INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9)",
        "PREPARE p AS INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9); EXECUTE p",
        "COPY probe.note FROM PROGRAM 'echo globex'",
        "CREATE FUNCTION pg_temp.f() RETURNS void SECURITY DEFINER LANGUAGE sql AS"
        " $$INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9)$$; SELECT pg_temp.f()",
        "CREATE TEMP TABLE t (a int); CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN INSERT INTO probe.note (tenant_id, id) VALUES ('globex', 9); RETURN NEW;"
        " END$$; CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION pg_temp.f();"
        " INSERT INTO t VALUES (1)",
        "SET row_security = off; SELECT * FROM probe.note",
    ),
    "an own row made another tenant's": (
        "UPDATE probe.note SET tenant_id = 'globex'",
        "UPDATE probe.remark SET tenant_id = 'globex'",
        "UPDATE probe.note SET id = 9",
        "INSERT INTO probe.note (id) VALUES (1)"
        " ON CONFLICT (tenant_id, id) DO UPDATE SET tenant_id = 'globex'",
    ),
    "rows removed": (
        "TRUNCATE probe.note",
        "TRUNCATE probe.note, probe.remark RESTART IDENTITY CASCADE",
        "DELETE FROM probe.note",
        "MERGE INTO probe.note USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        "DROP TABLE probe.note CASCADE",
        "DROP SCHEMA probe CASCADE",
    ),
    "all tenants held up": (
        *(
            f"SELECT 1; LOCK TABLE probe.note IN {mode} MODE"
            for mode in (
                *("SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE"),
                "ACCESS EXCLUSIVE",
            )
        ),
        "SELECT 1; LOCK TABLE probe.words",
        "SELECT 1; LOCK TABLE public.data_source_run",
        "SELECT 1; LOCK TABLE pg_catalog.pg_class",
        "SELECT setval('probe.remark_remark_no_seq', 1)",
        "ALTER SEQUENCE probe.remark_remark_no_seq RESTART",
        "REINDEX TABLE probe.note",
        "CLUSTER probe.note USING note_pkey",
        "CREATE STATISTICS probe.st ON id, body FROM probe.note",
        "SELECT pg_terminate_backend({victim})",
        "SELECT pg_cancel_backend({victim})",
        "SELECT pg_terminate_backend({daemon})",
        "SELECT pg_cancel_backend({daemon})",
        "SELECT pg_stat_reset()",
        "CHECKPOINT",
    ),
    "harvestd's own tables": (
        "SELECT * FROM harvestd.binding",
        "UPDATE harvestd.binding SET tenant_id = 'globex'",
        "SELECT harvestd.me()",
        "SELECT harvestd.hold()",
        "DO $$ BEGIN PERFORM harvestd_api.guard(); END $$",
        "SELECT harvestd_api.empty_schema('probe')",
        "SELECT * FROM harvestd.bookmark",
        "SELECT * FROM harvestd.audit_log",
        "SELECT * FROM public.tenant",
        "SELECT * FROM public.tenant_data_source_config",
        "SELECT query_to_xml('SELECT * FROM public.tenant_data_source_config', true, true, '')",
        "UPDATE public.data_source_run SET fence = 0",
        "SELECT * FROM public.data_source_run FOR UPDATE",
    ),
    "the wall itself": (
        "ALTER TABLE probe.note DISABLE TRIGGER ALL",
        "ALTER TABLE probe.note DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE probe.note NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE probe.note OWNER TO CURRENT_USER",
        "DROP POLICY harvestd_tenant ON probe.note",
        "CREATE POLICY mine ON probe.note USING (true)",
        "DROP TRIGGER harvestd_guard ON probe.note",
        "DROP FUNCTION harvestd_api.tenant() CASCADE",
        "CREATE OR REPLACE FUNCTION harvestd_api.tenant() RETURNS text LANGUAGE sql AS"
        " $$SELECT 'globex'$$",
        "ALTER FUNCTION harvestd_api.tenant() SECURITY INVOKER",
        "SET session_replication_role = replica",
        "SELECT set_config('session_replication_role', 'replica', true)",
        "SET allow_system_table_mods = on",
        "CREATE TEMP TABLE k () INHERITS (probe.note)",
        # On a table that nobody uses just now: they wait for its lock before they ask for a right.
        "CREATE RULE r AS ON INSERT TO other.note DO INSTEAD NOTHING",
        "CREATE TRIGGER x BEFORE INSERT ON other.note EXECUTE FUNCTION harvestd_api.guard()",
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION harvestd_api.guard()",
        "CREATE PUBLICATION p FOR TABLE probe.note",
        "SECURITY LABEL ON TABLE probe.note IS 'x'",
        "COMMENT ON TABLE probe.note IS 'x'",
    ),
    "places for more": (
        "CREATE TABLE probe.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE VIEW public.mine AS SELECT 1",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION probe.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        "CREATE EXTENSION pgcrypto",
        "CREATE LANGUAGE plpython3u",
        "CREATE FOREIGN DATA WRAPPER w",
    ),
    "other roles": (
        "SET ROLE {prefix}daemon",
        "SET ROLE {prefix}reader",
        "SET ROLE {prefix}src_probe",
        "SET ROLE {other_seat}",
        "SET ROLE {keeper}",
        "SET SESSION AUTHORIZATION {prefix}src_probe",
        "SET SESSION AUTHORIZATION {other_seat}",
        "GRANT {prefix}daemon TO CURRENT_USER",
        "GRANT {seat} TO {other_seat}",
        "GRANT {prefix}exec TO {other_seat} WITH ADMIN OPTION",
        "ALTER ROLE {prefix}src_probe LOGIN PASSWORD 'x'",
        "ALTER ROLE {other_seat} PASSWORD 'x'",
        "ALTER ROLE {other_seat} SET role = {prefix}exec",
        "ALTER ROLE {seat} BYPASSRLS",
        "ALTER ROLE {seat} SUPERUSER",
        "ALTER ROLE {seat} CONNECTION LIMIT -1",
        "ALTER ROLE {seat} VALID UNTIL '2000-01-01'",
        "ALTER ROLE {seat} RENAME TO mine",
        "COMMENT ON ROLE {seat} IS 'x'",
        "CREATE ROLE mine",
        "DROP ROLE {other_seat}",
        "DROP OWNED BY {prefix}daemon",
        "DROP OWNED BY {prefix}src_probe",
        "REASSIGN OWNED BY {prefix}src_probe TO CURRENT_USER",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {prefix}src_probe GRANT ALL ON TABLES TO PUBLIC",
    ),
    "the machine": (
        "COPY probe.note TO PROGRAM 'cat'",
        "COPY probe.note TO '/tmp/harvestd-attack'",
        "COPY (SELECT 1) TO '/tmp/harvestd-attack'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT pg_stat_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/harvestd-attack')",
        "LOAD 'auto_explain'",
        "SELECT * FROM pg_authid",
        "SELECT stavalues1::text FROM pg_statistic",
        "SELECT * FROM pg_largeobject",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT * FROM pg_user_mapping",
        "SHOW data_directory",
        "SHOW hba_file",
        "SET temp_file_limit = 1",
        "SET log_statement = 'all'",
        "SET lo_compat_privileges = on",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "ALTER DATABASE {database} SET work_mem = '1MB'",
        "SELECT pg_reload_conf()",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
        "SELECT pg_log_backend_memory_contexts({victim})",
    ),
    "another data source": (
        "INSERT INTO other.note (id) VALUES (9)",
        "UPDATE other.note SET body = 'x'",
        "WITH w AS (UPDATE other.note SET body = 'x' RETURNING 1) SELECT * FROM w",
        "MERGE INTO other.note AS n USING (SELECT 1) AS s ON true"
        " WHEN MATCHED THEN UPDATE SET body = 'x'",
        "EXPLAIN ANALYZE INSERT INTO other.note (id) VALUES (9)",
        "DO $$ BEGIN INSERT INTO other.remark DEFAULT VALUES; END $$",
    ),
    # Whether the other tenant has that row or nobody: the same answer.
    "whether a row is there, by a foreign key": (
        "INSERT INTO probe.remark (note_id) VALUES (77)",
        "INSERT INTO probe.remark (note_id) VALUES (78)",
    ),
    "rows in an error": (
        "SELECT body::int / 0 FROM probe.note",
        "SELECT 1 / (id - 1) FROM probe.note",
        "SELECT body::date FROM probe.note",
        "SELECT (body || 'x')::int FROM probe.note",
        "SELECT count(*) FROM probe.note WHERE body::date IS NOT NULL",
        "DO $$ BEGIN RAISE EXCEPTION '%', (SELECT string_agg(body, ',') FROM probe.note); END $$",
        "SELECT * FROM probe.note WHERE set_config('a.b', body, true) = '' OR body::date > now()",
    ),
}

# Answered, perhaps with a warning: by own rows, or without any effect.
POINTLESS: dict[str, Iterable[str]] = {
    "reading": (
        "SELECT * FROM probe.note",
        "SELECT * FROM probe.words",
        "SELECT * FROM probe.note WHERE tenant_id = 'globex' OR true",
        "SELECT * FROM probe.note TABLESAMPLE SYSTEM (100)",
        "SELECT * FROM probe.note WHERE ctid = ANY (ARRAY['(0,1)', '(0,2)', '(0,3)']::tid[])",
        "SET enable_seqscan = off; SELECT * FROM probe.note ORDER BY tenant_id, id",
        "SET jit_above_cost = 0; SELECT tenant_id, array_agg(body) FROM probe.note GROUP BY 1",
        "SELECT table_to_xml('probe.note', true, true, '')",
        "SELECT schema_to_xml('probe', true, true, '')",
        "SELECT query_to_xml('SELECT * FROM probe.note', true, true, '')",
        "SELECT ts_stat('SELECT to_tsvector(body) FROM probe.note')",
        "SELECT (SELECT array_agg(n) FROM probe.note AS n)",
        "SELECT * FROM other.note",
        "SET ROLE {prefix}exec; SELECT * FROM probe.note",  # PostgreSQL 15 lets it
        "SELECT * FROM pg_stats WHERE schemaname IN ('probe', 'other')",
        "SELECT * FROM pg_stats_ext",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM probe.note",
        "SELECT * FROM probe.note FOR UPDATE",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM probe.note; FETCH ALL FROM c",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM probe.note",
        "SELECT set_config('app.tenant_id', 'globex', false); SELECT * FROM probe.note",
        "SELECT set_config('harvestd.tenant_id', 'globex', false); SELECT harvestd_api.tenant()",
        "CREATE FUNCTION pg_temp.tenant() RETURNS text LANGUAGE sql AS $$SELECT 'globex'$$;"
        " SET search_path = pg_temp, harvestd_api; SELECT * FROM probe.note",
        "CREATE TEMP TABLE binding AS SELECT 'globex' AS tenant_id;"
        " SET search_path = pg_temp, probe; SELECT * FROM probe.note",
        "SELECT harvestd_api.bookmark('mark')",
        "SELECT * FROM pg_prepared_xacts",
        "SELECT prosrc FROM pg_proc WHERE pronamespace = 'harvestd'::regnamespace",
        "SELECT currtid2('probe.note', '(0,1)')",
    ),
    "writing": (
        "UPDATE probe.note SET body = body WHERE tenant_id = 'globex'",
        "UPDATE probe.note SET body = 'x' FROM probe.note AS n WHERE n.tenant_id = 'globex'",
        "MERGE INTO probe.note AS n USING (SELECT 'globex' AS t) AS s ON n.tenant_id = s.t"
        " WHEN MATCHED THEN UPDATE SET body = 'x'",
        # The other tenant has this key; for this one it is free.
        "INSERT INTO probe.note (id, body) VALUES (77, 'mine') ON CONFLICT DO NOTHING",
    ),
    "rights": (
        "GRANT ALL ON probe.note TO PUBLIC",
        "GRANT ALL ON SCHEMA probe TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION harvestd_api.tenant() TO PUBLIC",
        "REVOKE ALL ON probe.note FROM {prefix}exec",
        "REVOKE ALL ON FUNCTION harvestd_api.tenant() FROM {prefix}exec",
        "DROP OWNED BY {prefix}exec CASCADE",
        "DROP OWNED BY CURRENT_USER CASCADE",
        "REASSIGN OWNED BY {prefix}exec TO CURRENT_USER",
        "VACUUM FULL probe.note",
        "ANALYZE probe.note",
    ),
}
# Only of interest where they are answered: a hardened database refuses them.
TELLING = (
    "SELECT pid, query FROM pg_stat_activity",
    "SELECT query FROM pg_stat_activity WHERE pid = {victim}",
    "SELECT pg_stat_get_activity({victim})",
    "SELECT pg_stat_get_backend_activity(n) FROM generate_series(1, 40) AS n",
    "SELECT * FROM pg_locks",
)
