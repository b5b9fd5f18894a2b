-- breaking: no
-- An edit inside CREATE TABLE IF NOT EXISTS does nothing where the table is there, and nobody was
-- told: what a schema.sql makes on an empty schema is now compared with what there is.

-- Put the caller's schema aside and an empty one in its place, in a transaction that cannot commit.
--
-- Only the catalog's row of the schema is written: nobody's tables are locked, others go on seeing
-- the old name, and the rollback is no news to their plans.  The caller's role may neither rename
-- nor make a schema; whatever SQL of its own it runs afterwards, COMMIT fails on the two equal
-- keys, and the table that holds them is not its own.
CREATE FUNCTION harvestd_api.empty_schema(wanted text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    place oid;
BEGIN
    CREATE TEMPORARY TABLE harvestd_never_commits (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO pg_temp.harvestd_never_commits VALUES (1), (1);
    SELECT namespace.oid INTO place
    FROM pg_namespace AS namespace
    JOIN pg_roles AS owner ON owner.oid = namespace.nspowner
    WHERE namespace.nspname = wanted
      AND owner.rolname = session_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not the own schema: %', wanted USING ERRCODE = 'HD003';
    END IF;
    EXECUTE format('ALTER SCHEMA %I RENAME TO %I', wanted, 'harvestd_aside_' || place);
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', wanted, session_user);
END
$$;

REVOKE EXECUTE ON FUNCTION harvestd_api.empty_schema(text) FROM PUBLIC;
