-- harvestd's roles for the database {database} of this very server (PostgreSQL {major}), made for
-- the login {login}, which itself may make none.  Printed by: harvestd migrate --print-roles
--
-- Run it in that database as a superuser, or as a role with CREATEROLE that also has the rights of
-- the database's owner:   psql -v ON_ERROR_STOP=1 -d ... -f roles.sql
-- It may be run again at any time.  It makes what is missing of the roles and memberships, sets
-- NOLOGIN CREATEROLE on the keeper, grants the rights to connect below, drops the schema
-- harvestd_keeper, which holds nothing but its functions, and makes it anew; no login, no password
-- and no row is changed.
--
-- What it makes, all of it NOLOGIN:
--   {prefix}daemon  all rights on harvestd's tables; {login} is a member; CONNECT with
--       grant option, to be passed on to the logins that are made
--   {prefix}exec    what SQL of plugins may do
--   {prefix}reader  reads what was collected; harvestd reader add lets others join
--   {prefix}keeper  CREATEROLE; nobody is a member, and nobody can log in as it
-- and the schema harvestd_keeper with six functions for {prefix}daemon that run with
-- the keeper's rights.  They are all that {login} can do with roles: make, lock and drop logins
-- whose names begin with {prefix}seat_ or {prefix}src_, and say who
-- is a member of the reader role.  Passwords come as SCRAM verifiers, so that none is in a log.
--
-- To take back the keeper alone, as a superuser:
--   DROP SCHEMA harvestd_keeper CASCADE;
--   DROP OWNED BY {prefix}keeper CASCADE;
--   DROP ROLE {prefix}keeper;
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

DO $$
DECLARE
    part text;
    owner text;
BEGIN
    IF '{hex}' <> (SELECT left(encode(sha256(convert_to(system_identifier || '/' || oid, 'UTF8')),
                                      'hex'), 8)
                   FROM pg_control_system(), pg_database WHERE datname = current_database()) THEN
        RAISE EXCEPTION 'these roles are for another database than %', current_database()
            USING HINT = 'Connect to that one, or print them for this: migrate --print-roles';
    END IF;
    SELECT nspowner::regrole INTO owner FROM pg_namespace WHERE nspname = 'harvestd_keeper';
    IF owner !~ '^harvestd_[0-9a-f]{8}_keeper$' THEN
        RAISE EXCEPTION 'the schema harvestd_keeper belongs to %', owner
            USING HINT = 'If it came with a restored dump: DROP SCHEMA harvestd_keeper CASCADE';
    END IF;
    FOREACH part IN ARRAY ARRAY['daemon', 'exec', 'reader', 'keeper'] LOOP
        IF to_regrole('{prefix}' || part) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', '{prefix}' || part);
        END IF;
    END LOOP;
END
$$;

ALTER ROLE {prefix}keeper NOLOGIN CREATEROLE;

GRANT {prefix}daemon TO {login}{with_rights};
-- For harvestd sql and harvestd try, which become these for a moment.
GRANT {prefix}exec, {prefix}reader TO {login}{to_become};
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {prefix}exec;
-- To be passed on to the logins that are made, where not everybody may connect.
GRANT CONNECT ON DATABASE {database} TO {prefix}daemon WITH GRANT OPTION;

DO $$
DECLARE
    made text;
BEGIN
    -- Since PostgreSQL 16 CREATEROLE manages only what it made itself, or was given to manage.
    FOR made IN SELECT rolname FROM pg_roles
                WHERE current_setting('server_version_num')::integer >= 160000
                  AND rolname ~ '^{prefix}(exec$|reader$|seat_|src_)'
                  AND NOT pg_has_role('{prefix}keeper', oid, 'USAGE WITH ADMIN OPTION') LOOP
        EXECUTE format('GRANT %I TO {prefix}keeper WITH ADMIN TRUE, INHERIT FALSE, SET FALSE',
                       made);
    END LOOP;
    -- Who is no superuser becomes the keeper for the rest of this.
    IF current_setting('is_superuser') = 'off' THEN
        GRANT {prefix}keeper TO CURRENT_USER{to_act};
    END IF;
END
$$;

DROP SCHEMA IF EXISTS harvestd_keeper CASCADE;
CREATE SCHEMA harvestd_keeper AUTHORIZATION {prefix}keeper;
SET LOCAL ROLE {prefix}keeper;

-- No pattern here has a backslash: standard_conforming_strings, which the caller may set, would
-- change what it means.
CREATE FUNCTION harvestd_keeper.refuse_unless(role text, kind text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (role ~ ('^{prefix}' || kind || '$')) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a role that this keeper makes: %', role USING ERRCODE = '42501';
    END IF;
END
$$;

CREATE FUNCTION harvestd_keeper.set_password(role text, verifier text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (verifier ~ ('^SCRAM-SHA-256[$][0-9]{1,6}:[A-Za-z0-9+/=]{8,64}'
                    '[$][A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$')) IS NOT TRUE THEN
        RAISE EXCEPTION 'not a SCRAM verifier' USING ERRCODE = '42501';
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L VALID UNTIL %L', role, verifier, 'infinity');
    EXECUTE format('ALTER ROLE %I RESET ALL', role);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', role, current_database());
END
$$;

-- The login of a seat, on which SQL of plugins runs: made where missing, with a new password, and
-- neither expired nor held to fewer connections than it needs.
CREATE FUNCTION harvestd_keeper.seat(role text, verifier text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM harvestd_keeper.refuse_unless(role, 'seat_[0-9]{3,6}');
    IF to_regrole(role) IS NULL THEN
        EXECUTE format('CREATE ROLE %I {seat_options}', role);
    END IF;
    IF NOT pg_has_role(role::name, '{prefix}exec', 'USAGE') THEN
        EXECUTE format('GRANT {prefix}exec TO %I{with_rights}', role);
    END IF;
    IF NOT pg_has_role(session_user, role::name, 'USAGE') THEN
        EXECUTE format('GRANT %I TO %I{with_rights}', role, session_user);
    END IF;
    EXECUTE format('ALTER ROLE %I {seat_options}', role);
    PERFORM harvestd_keeper.set_password(role, verifier);
END
$$;

-- The owner of a data source's schema: made where missing, with a new password.
CREATE FUNCTION harvestd_keeper.source(role text, verifier text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    maker name;
BEGIN
    PERFORM harvestd_keeper.refuse_unless(role, 'src_[a-z0-9_]{1,{source_bytes}}');
    IF to_regrole(role) IS NULL THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
    -- Who makes the schema for it, and who migrated, whose function makes an empty one to compare.
    FOR maker IN SELECT session_user
                 UNION
                 SELECT pg_get_userbyid(proowner)
                 FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
                 WHERE nspname = 'harvestd_api' AND proname = 'empty_schema' LOOP
        IF NOT pg_has_role(maker, role::name, 'USAGE') THEN
            EXECUTE format('GRANT %I TO %I{to_act}', role, maker);
        END IF;
    END LOOP;
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT -1', role);
    PERFORM harvestd_keeper.set_password(role, verifier);
END
$$;

-- It may log in, for as long as its schema.sql is applied.
CREATE FUNCTION harvestd_keeper.open_source(role text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM harvestd_keeper.refuse_unless(role, 'src_[a-z0-9_]{1,{source_bytes}}');
    EXECUTE format('ALTER ROLE %I LOGIN', role);
    EXECUTE format('ALTER ROLE %I RESET ALL', role);
END
$$;

-- It may no more.
CREATE FUNCTION harvestd_keeper.close_source(role text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM harvestd_keeper.refuse_unless(role, 'src_[a-z0-9_]{1,{source_bytes}}');
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', role);
    EXECUTE format('ALTER ROLE %I RESET ALL', role);
END
$$;

-- Its schema is gone.  PostgreSQL refuses this while it owns anything.
CREATE FUNCTION harvestd_keeper.drop_source(role text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM harvestd_keeper.refuse_unless(role, 'src_[a-z0-9_]{1,{source_bytes}}');
    EXECUTE format('DROP ROLE %I', role);
END
$$;

-- Whether a role, of any name but harvestd's, reads what was collected.
CREATE FUNCTION harvestd_keeper.reader(role text, reads boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF starts_with(role, 'harvestd_') IS NOT FALSE OR reads IS NULL THEN
        RAISE EXCEPTION 'not a role that may read: %', role USING ERRCODE = '42501';
    ELSIF reads THEN
        EXECUTE format('GRANT {prefix}reader TO %I{with_rights}', role);
    ELSE
        EXECUTE format('REVOKE {prefix}reader FROM %I', role);
    END IF;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA harvestd_keeper FROM PUBLIC;
GRANT USAGE ON SCHEMA harvestd_keeper TO {prefix}daemon;
GRANT EXECUTE ON FUNCTION
    harvestd_keeper.seat(text, text),
    harvestd_keeper.source(text, text),
    harvestd_keeper.open_source(text),
    harvestd_keeper.close_source(text),
    harvestd_keeper.drop_source(text),
    harvestd_keeper.reader(text, boolean)
    TO {prefix}daemon;

RESET ROLE;
DO $$
BEGIN
    IF current_setting('is_superuser') = 'off' THEN
        REVOKE {prefix}keeper FROM CURRENT_USER;
    END IF;
END
$$;

COMMIT;
