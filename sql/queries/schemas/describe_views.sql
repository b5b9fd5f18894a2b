-- describe_views: the views of a schema.
--
-- $1 schema_name  text
-- -> name, definition (its options and its query), made_now (by the transaction under way)
--
-- The query's text says * column by column, so the same words may mean other columns on tables
-- with another history; a view that the file has just made is what it says.
SELECT quote_ident(view.relname) AS name,
       format('WITH (%s) AS %s',
              array_to_string(ARRAY(SELECT option.text
                                    FROM unnest(view.reloptions) AS option (text)
                                    ORDER BY option.text), ', '),
              pg_catalog.pg_get_viewdef(view.oid)) AS definition,
       pg_catalog.age(rule.xmin) <= 0 AS made_now
FROM pg_catalog.pg_class AS view
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = view.relnamespace
JOIN pg_catalog.pg_rewrite AS rule ON rule.ev_class = view.oid AND rule.rulename = '_RETURN'
WHERE namespace.nspname = $1::text
  AND view.relkind = 'v'
ORDER BY view.relname;
