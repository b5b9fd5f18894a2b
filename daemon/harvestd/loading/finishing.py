"""The statements that finish a table of a data source into the wall.

Pure: they are run by the schema's owner, in the transaction of its schema.sql.  All of them
each time, since the owner may have undone any of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from harvestd.database.roles import Roles
from harvestd.loading.writes import FRAMEWORK_COLUMNS, TENANT_ID, quoted

FINISHING = 3
"""Raised with each change of what is added here: the next start then finishes every source anew.

2: written_at is when a row was written, no longer when its transaction began.
3: the policy of tenants is for everybody, so that no seat can drop it.
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view as ``list_relations_to_finish`` describes it."""

    name: str
    is_view: bool
    keyed: bool
    changeable: Sequence[str]
    serials: Sequence[str]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the wall: the statements that make it, whatever there was.

    ``relation`` ('' for the schema) and ``name`` are what ``describe_wall`` calls it.
    """

    relation: str
    name: str
    statements: tuple[str, ...]


def finish_schema(roles: Roles, schema: str) -> Iterator[str]:
    """Who may look into the schema; nobody but its owner creates there."""
    for part in schema_parts(roles, schema):
        yield from part.statements
    # Also those of identity columns, which need no grant and get none below.
    place = quoted(schema)
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {place} FROM PUBLIC, {_everybody(roles)} CASCADE"


def schema_parts(roles: Roles, schema: str) -> Iterator[Part]:
    """What makes the schema itself part of the wall."""
    place, everybody = quoted(schema), _everybody(roles)
    revoked = f"REVOKE ALL ON SCHEMA {place} FROM PUBLIC, {everybody} CASCADE"
    yield Part("", "rights", (revoked, f"GRANT USAGE ON SCHEMA {place} TO {everybody}"))


def no_rights(roles: Roles, schema: str, sequence: str, name: str) -> Part:
    """For a sequence that nobody draws from by himself: that of an identity column."""
    place = f"{quoted(schema)}.{quoted(sequence)}"
    revoked = f"REVOKE ALL ON SEQUENCE {place} FROM PUBLIC, {_everybody(roles)} CASCADE"
    return Part(sequence, name, (revoked,))


def finish_relation(roles: Roles, schema: str, relation: Relation) -> Iterator[str]:
    """Everything that makes one table, or view, part of the wall."""
    return chain.from_iterable(part.statements for part in relation_parts(roles, schema, relation))


def relation_parts(roles: Roles, schema: str, relation: Relation) -> Iterator[Part]:
    """The same, part by part."""
    place = f"{quoted(schema)}.{quoted(relation.name)}"
    if not relation.is_view:
        if relation.keyed:
            yield Part(relation.name, "framework columns", tuple(_framework_columns(place)))
        yield from _row_level_security(roles, place, relation.name)
        yield Part(relation.name, "trigger harvestd_guard", (_guard(roles, place),))
    yield Part(relation.name, "rights", tuple(_rights(roles, place, relation)))
    for name in relation.serials:
        sequence = f"{quoted(schema)}.{quoted(name)}"
        revoked = f"REVOKE ALL ON SEQUENCE {sequence} FROM PUBLIC, {_everybody(roles)} CASCADE"
        given = f"GRANT USAGE ON SEQUENCE {sequence} TO {roles.exec}, {roles.daemon}"
        yield Part(name, "rights", (revoked, given))


def _everybody(roles: Roles) -> str:
    return f"{roles.exec}, {roles.daemon}, {roles.reader}"


def _framework_columns(place: str) -> Iterator[str]:
    # now() is the same for all rows there are, so none of them is rewritten.
    yield (
        f"ALTER TABLE {place}"
        " ADD COLUMN IF NOT EXISTS written_at timestamptz NOT NULL DEFAULT now(),"
        " ADD COLUMN IF NOT EXISTS deleted_at timestamptz"
    )
    yield (
        f"ALTER TABLE {place}"
        " ALTER COLUMN written_at SET DEFAULT statement_timestamp(),"
        " ALTER COLUMN written_at SET NOT NULL,"
        " ALTER COLUMN deleted_at DROP DEFAULT, ALTER COLUMN deleted_at DROP NOT NULL"
    )


def _row_level_security(roles: Roles, place: str, name: str) -> Iterator[Part]:
    column = (
        f"ALTER TABLE {place}"
        f" ALTER COLUMN {TENANT_ID} SET DEFAULT harvestd_api.tenant(),"
        f" ALTER COLUMN {TENANT_ID} SET NOT NULL"
    )
    yield Part(name, "tenant_id", (column,))
    enabled = f"ALTER TABLE {place} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    yield Part(name, "row-level security", (enabled,))
    # Without the SELECT the function runs for every row: two to five times slower.
    own = f"({TENANT_ID} = (SELECT harvestd_api.tenant()))"
    policies = {
        # For everybody: of a policy that names a role, DROP OWNED BY that role takes the role out,
        # and whoever has its rights may say so.  Beside a policy of true it costs nothing.
        "harvestd_tenant": f"TO PUBLIC USING {own} WITH CHECK {own}",
        "harvestd_daemon": f"TO {roles.daemon} USING (true) WITH CHECK (true)",
        "harvestd_reader": f"FOR SELECT TO {roles.reader} USING (true)",
    }
    for policy, admits in policies.items():
        dropped = f"DROP POLICY IF EXISTS {policy} ON {place}"
        made = f"CREATE POLICY {policy} ON {place} {admits}"
        yield Part(name, f"policy {policy}", (dropped, made))


def _guard(roles: Roles, place: str) -> str:
    """The trigger that compares the fence.  OR REPLACE also enables one that was disabled.

    It asks for the session's role, which no SQL can change: a cascade runs as the owner, for
    the daemon that erases a tenant as for a seat.
    """
    return (
        "CREATE OR REPLACE TRIGGER harvestd_guard"
        f" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {place} FOR EACH STATEMENT"
        f" WHEN (NOT pg_catalog.pg_has_role(session_user, '{roles.daemon}', 'MEMBER'))"
        " EXECUTE FUNCTION harvestd_api.guard()"
    )


def _rights(roles: Roles, place: str, relation: Relation) -> Iterator[str]:
    # Rights on single columns go with those on the whole.
    yield f"REVOKE ALL ON {place} FROM PUBLIC, {_everybody(roles)} CASCADE"
    if relation.is_view:
        yield f"GRANT SELECT ON {place} TO {_everybody(roles)}"
        return
    yield f"GRANT SELECT, INSERT ON {place} TO {roles.exec}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {place} TO {roles.daemon}"
    yield f"GRANT SELECT ON {place} TO {roles.reader}"
    if relation.keyed:
        # By column: with UPDATE on the whole table, a seat could LOCK it against all tenants.
        columns = dict.fromkeys((*relation.changeable, *FRAMEWORK_COLUMNS))
        yield f"GRANT UPDATE ({', '.join(map(quoted, columns))}) ON {place} TO {roles.exec}"
