-- is_schema_empty: whether there is nothing in a schema that its file could differ from.
--
-- $1 schema_name  text
-- -> empty
--
-- To describe a schema takes locks on its tables, which somebody may have locked for long.
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class AS relation
                   WHERE relation.relnamespace = to_regnamespace(quote_ident($1::text)))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS kind
                       WHERE kind.typnamespace = to_regnamespace(quote_ident($1::text)))
       AS empty;
