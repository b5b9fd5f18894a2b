"""All that a command could have changed in a database."""

from __future__ import annotations

from typing import Any

from tests.builders import query


async def everything(url: str) -> dict[str, Any]:
    """All rows of all our tables with their versions, and the state of every sequence."""
    tables = await query(
        url,
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('public', 'harvestd') ORDER BY 1",
    )
    seen: dict[str, Any] = {}
    for table in tables:
        name = table["name"]
        rows = f"SELECT ctid::text, xmin::text, row::text FROM {name} AS row ORDER BY ctid"
        seen[name] = await query(url, rows)
    seen["sequences"] = await query(
        url, "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"
    )
    seen["relations"] = await query(
        url, "SELECT oid, relname, relacl::text FROM pg_class WHERE relkind IN ('r', 'p', 'S')"
    )
    seen["members"] = await query(url, "SELECT roleid, member FROM pg_auth_members ORDER BY 1, 2")
    return seen
