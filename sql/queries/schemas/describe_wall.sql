-- describe_wall: what finishing makes of a schema and its relations, as the catalog has it.
--
-- $1 schema_name  text
-- $2 roles        text[]  whose rights count: others have none, which the inspection says
-- -> relation ('' for the schema), part, says (parts of a list by '; '); no row where a part lacks
--
-- The name of the schema is in none of it, so two schemas may be compared.
WITH place AS (
    SELECT namespace.oid, namespace.nspname, namespace.nspacl, namespace.nspowner
    FROM pg_catalog.pg_namespace AS namespace
    WHERE namespace.nspname = $1::text
),
relation AS (
    SELECT relation.oid, relation.relname, relation.relkind, relation.relacl,
           relation.relrowsecurity, relation.relforcerowsecurity, place.nspname
    FROM place
    JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = place.oid
    WHERE relation.relkind IN ('r', 'v', 'S')
),
given AS (
    SELECT '' AS relname, '' AS attname, acl.grantee, acl.privilege_type, acl.is_grantable
    FROM place
    CROSS JOIN LATERAL aclexplode(place.nspacl) AS acl
    UNION ALL
    SELECT relation.relname, '', acl.grantee, acl.privilege_type, acl.is_grantable
    FROM relation
    CROSS JOIN LATERAL aclexplode(relation.relacl) AS acl
    UNION ALL
    SELECT relation.relname, attribute.attname, acl.grantee, acl.privilege_type, acl.is_grantable
    FROM relation
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
    CROSS JOIN LATERAL aclexplode(attribute.attacl) AS acl
    -- Before 18 a column that was dropped keeps its rights, which no REVOKE reaches.
    WHERE NOT attribute.attisdropped
),
right_of AS (
    SELECT DISTINCT given.relname,
           grantee.rolname || ' ' || given.privilege_type
               || CASE WHEN given.attname = '' THEN '' ELSE ' (' || given.attname || ')' END
               || CASE WHEN given.is_grantable THEN ' with grant option' ELSE '' END AS says
    FROM given
    JOIN pg_catalog.pg_roles AS grantee ON grantee.oid = given.grantee
    WHERE grantee.rolname = ANY ($2::text[])
),
own_column AS (
    SELECT relation.relname,
           attribute.attname,
           format('%s%s%s', attribute.attname,
                  ' default ' || pg_catalog.pg_get_expr(stored.adbin, stored.adrelid),
                  CASE WHEN attribute.attnotnull THEN ' not null' ELSE '' END) AS says
    FROM relation
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
    LEFT JOIN pg_catalog.pg_attrdef AS stored
      ON stored.adrelid = relation.oid AND stored.adnum = attribute.attnum
    WHERE relation.relkind = 'r'
      AND attribute.attname IN ('tenant_id', 'written_at', 'deleted_at')
)
SELECT right_of.relname::text AS relation, 'rights' AS part,
       string_agg(right_of.says, '; ' ORDER BY right_of.says) AS says
FROM right_of
GROUP BY right_of.relname
UNION ALL
SELECT own_column.relname::text,
       CASE own_column.attname WHEN 'tenant_id' THEN 'tenant_id' ELSE 'framework columns' END,
       string_agg(own_column.says, '; ' ORDER BY own_column.attname DESC)
FROM own_column
GROUP BY 1, 2
UNION ALL
SELECT relation.relname::text, 'row-level security',
       concat_ws('; ', CASE WHEN relation.relrowsecurity THEN 'enabled' END,
                       CASE WHEN relation.relforcerowsecurity THEN 'forced' END)
FROM relation
WHERE relation.relkind = 'r'
UNION ALL
SELECT relation.relname::text, 'policy ' || policy.polname,
       format('%s for %s to %s using %s check %s',
              CASE WHEN policy.polpermissive THEN 'permissive' ELSE 'restrictive' END,
              policy.polcmd,
              ARRAY(SELECT CASE target WHEN 0 THEN 'PUBLIC'
                           ELSE pg_catalog.pg_get_userbyid(target)::text END
                    FROM unnest(policy.polroles) AS target
                    ORDER BY 1),
              pg_catalog.pg_get_expr(policy.polqual, policy.polrelid),
              pg_catalog.pg_get_expr(policy.polwithcheck, policy.polrelid))
FROM relation
JOIN pg_catalog.pg_policy AS policy ON policy.polrelid = relation.oid
WHERE policy.polname LIKE 'harvestd\_%'
UNION ALL
SELECT relation.relname::text, 'trigger ' || reaction.tgname,
       format('%s (enabled: %s)',
              replace(pg_catalog.pg_get_triggerdef(reaction.oid),
                      format(' ON %I.%I ', relation.nspname, relation.relname), ' '),
              reaction.tgenabled)
FROM relation
JOIN pg_catalog.pg_trigger AS reaction ON reaction.tgrelid = relation.oid
WHERE reaction.tgname = 'harvestd_guard'
ORDER BY relation, part;
