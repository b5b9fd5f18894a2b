-- describe_functions: harvestd's functions as the catalog has them.
--
-- $1 schema_name  text  'harvestd', or where copies are; harvestd_api's and harvestd_keeper's have
--    '_api' and '_keeper' after it
-- -> name (that of the original), face (what CREATE OR REPLACE cannot change), does
--
-- Whose rights they have and where they look names up is asked by find_breached_functions.
SELECT format('harvestd%s.%I(%s)', substr(place.nspname, length($1::text) + 1), function.proname,
              pg_catalog.oidvectortypes(function.proargtypes)) AS name,
       concat_ws(' ', function.prokind, function.proretset,
                 function.prorettype::regtype,
                 pg_catalog.pg_get_function_arguments(function.oid)) AS face,
       concat_ws(E'\n', language.lanname, function.provolatile, function.proparallel,
                 function.proisstrict, function.proleakproof,
                 -- However far a mend was indented where it was pasted from.
                 regexp_replace(function.prosrc, '\s+', ' ', 'g'), function.probin,
                 pg_catalog.pg_get_function_sqlbody(function.oid),
                 (SELECT string_agg(setting, ' ' ORDER BY setting)
                  FROM unnest(function.proconfig) AS setting
                  WHERE NOT starts_with(setting, 'search_path='))) AS does
FROM pg_catalog.pg_proc AS function
JOIN pg_catalog.pg_namespace AS place ON place.oid = function.pronamespace
JOIN pg_catalog.pg_language AS language ON language.oid = function.prolang
WHERE place.nspname IN ($1::text, $1::text || '_api', $1::text || '_keeper')
ORDER BY name;
