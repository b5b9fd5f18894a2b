"""What a tenant has in the tables of a data source, in a form that two tenants can be compared in.

Left out are the tenant's id, ``written_at``, and columns that the database fills by itself with
something new each time (an identity, a default that calls a function).  ``deleted_at`` counts as
marked or not, and the tenant's id inside a value as that of whoever it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harvestd.loading.inspection import list_relations
from harvestd.loading.writes import quoted
from harvestd.testing.replica import Replica

OWN_VALUES = """
    SELECT attribute.attname::text AS name
    FROM pg_catalog.pg_attribute AS attribute
    LEFT JOIN pg_catalog.pg_attrdef AS filled
        ON filled.adrelid = attribute.attrelid AND filled.adnum = attribute.attnum
    WHERE attribute.attrelid = $1::text::regclass
      AND attribute.attnum > 0
      AND attribute.attgenerated = ''
      AND (attribute.attidentity <> ''
           OR pg_catalog.regexp_replace(
               pg_catalog.pg_get_expr(filled.adbin, filled.adrelid), '''([^'']|'''')*''', '', 'g'
           ) ~ '[(]|CURRENT_|LOCALTIME')
"""
ROWS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TableState:
    """``rows``: each as a JSON text, with how often it is there.  ``versions``: which row versions
    the server holds; an UPDATE that changes nothing makes a new one all the same."""

    keyed: bool
    rows: Mapping[str, int]
    versions: frozenset[str]


State = Mapping[str, TableState]


async def state_of(replica: Replica, source: str, tenant_id: str) -> State:
    """All tables of ``source`` by name, as far as they hold something of the tenant."""
    async with replica.connection() as connection:
        found = {}
        for relation in await list_relations(connection, source):
            if relation.is_view:
                continue
            place = f"{quoted(source)}.{quoted(relation.name)}"
            own = [row["name"] for row in await connection.fetch(OWN_VALUES, place)]
            marked = ", 'deleted_at', row.deleted_at IS NOT NULL" if relation.keyed else ""
            rows = await connection.fetch(
                "SELECT replace((to_jsonb(row) - $2::text[]"  # noqa: S608 - names of the catalog, quoted
                f" || jsonb_strip_nulls(jsonb_build_object('of', NULL{marked})))::text,"
                " $1, '(tenant)') AS text,"
                " row.xmin::text || row.ctid::text AS version"
                f" FROM {place} AS row WHERE row.tenant_id = $1",
                tenant_id,
                ["tenant_id", "written_at", "deleted_at", *own],
            )
            if rows:
                found[relation.name] = TableState(
                    relation.keyed,
                    Counter(row["text"] for row in rows),
                    frozenset(row["version"] for row in rows),
                )
        return found


def differences(actual: State, expected: State) -> str:
    """What ``actual`` has more or less than ``expected``, table by table; empty for equals."""
    lines = []
    for table in sorted({*actual, *expected}):
        ours = actual[table].rows if table in actual else {}
        theirs = expected[table].rows if table in expected else {}
        missing = sorted((Counter(theirs) - Counter(ours)).elements())
        extra = sorted((Counter(ours) - Counter(theirs)).elements())
        if names := _changed(missing, extra):
            lines.append(f"{table}: {len(extra)} rows differ in {', '.join(names)}")
        if missing:
            lines.append(f"{table}: missing {len(missing)} of {sum(theirs.values())} rows")
            lines += [f"    {text}" for text in missing[:ROWS_SHOWN]]
        if extra:
            lines.append(f"{table}: too many {len(extra)} of {sum(ours.values())} rows")
            lines += [f"    {text}" for text in extra[:ROWS_SHOWN]]
    return "\n".join(lines)


def _changed(missing: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The columns in which rows differ that are otherwise the same, if that is all there is."""
    if len(missing) != len(extra) or not missing:
        return []
    before, after = (list(map(json.loads, rows)) for rows in (missing, extra))
    for name in before[0]:
        rest = [
            sorted(json.dumps({**row, name: None}, sort_keys=True) for row in rows)
            for rows in (before, after)
        ]
        if rest[0] == rest[1]:
            return [name]
    return []
