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
# all seats have in common.  The rest are default privileges.  As a rule there is nothing, and an
# index says so.
REMOVE_OWNED = f"""
    WITH owned AS (
        SELECT dependency.objid,
               dependency.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AS is_large,
               dependency.refobjid = session_user::pg_catalog.regrole AS is_own
        FROM pg_catalog.pg_shdepend AS dependency
        JOIN pg_catalog.pg_database AS here ON here.oid = dependency.dbid
        WHERE here.datname = pg_catalog.current_database()
          AND dependency.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
          AND dependency.deptype = 'o'
          AND dependency.refobjid = ANY (ARRAY(
              SELECT session_user::pg_catalog.regrole::pg_catalog.oid
              UNION ALL
              SELECT membership.roleid
              FROM pg_catalog.pg_auth_members AS membership
              WHERE membership.member = session_user::pg_catalog.regrole))
    )
    SELECT (SELECT pg_catalog.count(pg_catalog.lo_unlink(large.objid))
            FROM (SELECT owned.objid
                  FROM owned
                  WHERE owned.is_large
                  LIMIT {UNLINKED_AT_ONCE}) AS large) AS unlinked,
           EXISTS (SELECT FROM owned WHERE owned.is_own AND NOT owned.is_large) AS owns_more
"""  # noqa: S608 - a number of our own


async def clean_session(connection: asyncpg.Connection[Any]) -> None:
    """Remove settings, temporary tables, locks, prepared statements, and what is owned."""
    # Two statements: DISCARD ALL is refused inside the implicit transaction of one string.
    await connection.execute("ROLLBACK")
    await connection.execute("DISCARD ALL")
    # DISCARD ALL dropped the statements on the server; asyncpg has no public call that
    # forgets only those (reload_schema_state() also drops the types: three times slower).
    connection._drop_local_statement_cache()  # type: ignore[attr-defined]
    for _ in range(ROUNDS_MAX):
        found = await connection.fetchrow(REMOVE_OWNED)
        assert found is not None
        if found["owns_more"]:
            await connection.execute("DROP OWNED BY SESSION_USER CASCADE")
        elif found["unlinked"] < UNLINKED_AT_ONCE:
            return
