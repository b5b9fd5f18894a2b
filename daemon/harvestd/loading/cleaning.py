"""Removing what plugin SQL left on a seat: in its session, and what its login owns.

Nothing of it may reach the next run; whatever it was, the seat can be used again.
"""

from __future__ import annotations

from typing import Any

import asyncpg

UNLINKED_AT_ONCE = 1000
"""Large objects: removing one takes a lock, and the server has room for some thousands."""
ROUNDS_MAX = 10_000
# Large objects know no fence and no policy; before PostgreSQL 16 SQL can give them to the role that
# all seats have in common.  As a rule there is nothing, and two small tables say so.
REMOVE_OWNED = f"""
    SELECT pg_catalog.lo_unlink(large.oid)
    FROM (SELECT metadata.oid
          FROM pg_catalog.pg_largeobject_metadata AS metadata
          WHERE pg_catalog.pg_has_role(metadata.lomowner, 'USAGE')
          LIMIT {UNLINKED_AT_ONCE}) AS large
    UNION ALL
    SELECT 0
    FROM pg_catalog.pg_default_acl AS defaults
    WHERE defaults.defaclrole = session_user::pg_catalog.regrole
"""  # noqa: S608 - a number of our own
NOTHING = "SELECT 0"
# Back to what there is without any.  Not by DROP OWNED: that would also drop, in one transaction,
# all temporary tables that a backend which was ended has not come to drop.
UNDO_DEFAULTS = """
    WITH standing AS (
        SELECT defaults.oid, defaults.defaclacl, defaults.defaclnamespace = 0 AS is_everywhere,
               pg_catalog.format('ALTER DEFAULT PRIVILEGES %s ', 'IN SCHEMA '
                   || pg_catalog.quote_ident(place.nspname)) AS alter_here,
               CASE defaults.defaclobjtype
                   WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                   WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind
        FROM pg_catalog.pg_default_acl AS defaults
        LEFT JOIN pg_catalog.pg_namespace AS place ON place.oid = defaults.defaclnamespace
        WHERE defaults.defaclrole = session_user::pg_catalog.regrole
    )
    SELECT 1 AS step, pg_catalog.format('%sREVOKE ALL ON %s FROM %s', standing.alter_here,
        standing.kind, CASE granted.grantee WHEN 0 THEN 'PUBLIC'
                       ELSE granted.grantee::pg_catalog.regrole::text END) AS statement
    FROM standing
    CROSS JOIN LATERAL pg_catalog.aclexplode(standing.defaclacl) AS granted
    UNION
    SELECT 2, pg_catalog.format('%sGRANT ALL ON %s TO %s', standing.alter_here, standing.kind,
        concat(CASE WHEN standing.kind IN ('FUNCTIONS', 'TYPES') THEN 'PUBLIC, ' END, session_user))
    FROM standing
    WHERE standing.is_everywhere
    ORDER BY step
"""


async def clean_session(connection: asyncpg.Connection[Any]) -> None:
    """Remove settings, temporary tables, locks, prepared statements, and what is owned."""
    # Two statements: DISCARD ALL is refused inside the implicit transaction of one string.
    await connection.execute("ROLLBACK")
    await connection.execute("DISCARD ALL")
    # DISCARD ALL dropped the statements on the server; asyncpg has no public call that
    # forgets only those (reload_schema_state() also drops the types: three times slower).
    connection._drop_local_statement_cache()  # type: ignore[attr-defined]
    for _ in range(ROUNDS_MAX):
        # What it answers is of no interest: only in how many rows, as the command tag says.
        if await connection.execute(REMOVE_OWNED) == NOTHING:
            return
        for undo in await connection.fetch(UNDO_DEFAULTS):
            await connection.execute(undo["statement"])
