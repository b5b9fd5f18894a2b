-- see_keeper: whether functions of a keeper make logins for the session's role, and whose it is.
--
-- $1 keeper  text    the role that must own them; a clone brings those of the original
-- $2 names   text[]  of the functions
-- -> serves, superuser (the session's role)
SELECT login.rolsuper AS superuser,
       (SELECT count(*)
        FROM pg_catalog.pg_proc AS function
        WHERE function.pronamespace = place.oid
          AND function.proname = ANY ($2::text[])
          AND function.prosecdef
          AND function.proowner = keeper.oid
          AND pg_catalog.has_function_privilege(login.oid, function.oid, 'EXECUTE')
       ) = cardinality($2::text[])
       AND pg_catalog.has_schema_privilege(login.oid, place.oid, 'USAGE') IS TRUE AS serves
FROM pg_catalog.pg_roles AS login
LEFT JOIN pg_catalog.pg_namespace AS place ON place.nspname = 'harvestd_keeper'
LEFT JOIN pg_catalog.pg_roles AS keeper ON keeper.rolname = $1::text
WHERE login.rolname = session_user;
