"""Which parts of the wall are missing in the database, on which object, and what mends each.

What there should be is made by the statements that finish a schema.sql, on empty copies of the
tables in a transaction that is rolled back, and read from the catalog like what there is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

from harvestd.database.functions import find_replaced_functions
from harvestd.database.pool import LOST, translate
from harvestd.database.roles import SEAT_CONNECTIONS_MAX, Roles
from harvestd.database.statements import sql
from harvestd.database.triggers import find_broken_triggers
from harvestd.loading.finishing import (
    Part,
    Relation,
    finish_relation,
    finish_schema,
    no_rights,
    relation_parts,
    schema_parts,
)
from harvestd.loading.inspection import inspect_schema, list_relations
from harvestd.loading.ownership import schema_owner
from harvestd.loading.writes import quoted

UNSEEN = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
MAY_LOOK = (
    "look again when no table is locked, as a role that may create schemas in this database and "
    "is a member of the data source's role"
)
OWN = (("functions", find_replaced_functions), ("triggers", find_broken_triggers))
Described: TypeAlias = Mapping[tuple[str, str], str]
"""By relation ('' for the schema) and part, what the catalog says of it."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that is not as the wall needs it, and the statements that mend it."""

    what: str
    mend: str


async def find_breaches(connection: asyncpg.Connection[Any], roles: Roles) -> list[Breach]:
    """All that breaks the wall: in roles, settings, functions, triggers, applied data sources.

    Changes nothing; copies of the tables, without rows, are made and rolled back.
    A data source that cannot be looked at is one of the answers.
    Raises: DatabaseError, Unreachable.
    """
    try:
        found = [
            *await connection.fetch(sql("find_breached_roles"), roles.prefix, SEAT_CONNECTIONS_MAX),
            *await connection.fetch(sql("find_breached_functions")),
            *await connection.fetch(sql("find_breached_grants"), roles.prefix),
            *await connection.fetch(sql("find_breached_settings"), roles.prefix),
        ]
        breaches = [Breach(row["what"], f"{row['mend']};") for row in found]
        for kind, find in OWN:
            try:
                breaches += [Breach(*one) for one in await find(connection)]
            except UNSEEN as error:
                breaches.append(Breach(f"{kind} of harvestd: not looked at: {error}", MAY_LOOK))
        for row in await connection.fetch(sql("list_applied_sources")):
            source = row["data_source"]
            try:
                breaches += await _breaches_of(connection, roles, source)
            except UNSEEN as error:
                what = f"the wall of {source}: not looked at: {error.message}"
                breaches.append(Breach(what, MAY_LOOK))
    except (asyncpg.PostgresError, *LOST) as error:
        raise translate(error) from None
    return breaches


async def _breaches_of(
    connection: asyncpg.Connection[Any], roles: Roles, source: str
) -> list[Breach]:
    owner = await schema_owner(connection, source)
    if owner != roles.source(source):
        what = f"the schema {source} belongs to {owner}"
        mend = f"ALTER SCHEMA {quoted(source)} OWNER TO {roles.source(source)};"
        return [Breach(what, mend)]
    findings = await inspect_schema(connection, roles, source)
    if findings:  # what is admitted comes first: the rest could not be compared
        return [Breach(one.what, _ended(one.mend)) for one in findings]
    relations = await list_relations(connection, source)
    actual = await _describe(connection, roles, source)
    expected = await _expect(connection, roles, source, relations)
    parts = list(schema_parts(roles, source))
    for one in relations:
        parts += relation_parts(roles, source, one)
    # Of the sequences of identity columns nobody needs any.
    known = {(part.relation, part.name) for part in parts}
    parts += [no_rights(roles, source, *key) for key in actual if key not in known]
    return list(_compare(source, expected, actual, parts))


async def _expect(
    connection: asyncpg.Connection[Any], roles: Roles, source: str, relations: Iterable[Relation]
) -> Described:
    """What a schema of the same tables looks like that was finished just now."""
    probe = f"harvestd_probe_{secrets.token_hex(8)}"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE SCHEMA {probe}")
        for one in relations:
            name, like = f"{probe}.{quoted(one.name)}", f"{quoted(source)}.{quoted(one.name)}"
            # A view has no defaults; its rights are all that is compared.
            await connection.execute(f"CREATE TABLE {name} (LIKE {like} INCLUDING DEFAULTS)")
            for serial in one.serials:
                await connection.execute(f"CREATE SEQUENCE {probe}.{quoted(serial)}")
        await connection.execute(";\n".join(finish_schema(roles, probe)))
        for one in relations:
            await connection.execute(";\n".join(finish_relation(roles, probe, one)))
        described = await _describe(connection, roles, probe)
    finally:
        await transaction.rollback()
    views = {one.name for one in relations if one.is_view}
    return {
        (relation, part): says
        for (relation, part), says in described.items()
        if relation not in views or part == "rights"
    }


async def _describe(connection: asyncpg.Connection[Any], roles: Roles, schema: str) -> Described:
    ours = [roles.exec, roles.daemon, roles.reader]
    rows = await connection.fetch(sql("describe_wall"), schema, ours)
    return {(row["relation"], row["part"]): row["says"] for row in rows}


def _compare(
    source: str, expected: Described, actual: Described, parts: Iterable[Part]
) -> Iterator[Breach]:
    made_by = {(part.relation, part.name): part.statements for part in parts}
    for key in sorted({*expected, *actual}):
        should, there = expected.get(key, ""), actual.get(key, "")
        if should == there:
            continue
        relation, part = key
        place = f"{source}.{relation}" if relation else f"the schema {source}"
        statements = made_by[key]
        yield Breach(f"{place}: {part}: {_difference(should, there)}", f"{'; '.join(statements)};")


def _ended(mend: str) -> str:
    """With a semicolon, where it is a statement: what is admitted is often told in words."""
    statement, _, why = mend.partition(" -- ")
    if not statement.startswith(("ALTER VIEW ", "DROP POLICY ", "REVOKE ")):
        return mend
    return f"{statement};" + (f"  -- {why}" if why else "")


def _difference(should: str, there: str) -> str:
    if not there:
        return "missing"
    wanted, found = should.split("; "), there.split("; ")
    lacks = "; ".join(one for one in wanted if one and one not in found)
    extra = "; ".join(one for one in found if one not in wanted)
    return ", ".join(
        said for said in (lacks and f"lacks {lacks}", extra and f"has {extra}") if said
    )
