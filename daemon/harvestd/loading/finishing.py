"""The statements that finish a table of a data source into the wall.

Pure: they are run by the schema's owner, in the transaction of its schema.sql.  All of them
each time, since the owner may have undone any of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harvestd.database.roles import Roles
from harvestd.loading.writes import FRAMEWORK_COLUMNS, TENANT_ID, quoted

FINISHING = 2
"""Raised with each change of what is added here: the next start then finishes every source anew.

2: written_at is when a row was written, no longer when its transaction began.
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view as ``list_relations_to_finish`` describes it."""

    name: str
    is_view: bool
    keyed: bool
    changeable: Sequence[str]
    serials: Sequence[str]


def finish_schema(roles: Roles, schema: str) -> Iterator[str]:
    """Who may look into the schema; nobody but its owner creates there."""
    place = quoted(schema)
    everybody = f"{roles.exec}, {roles.daemon}, {roles.reader}"
    yield f"REVOKE ALL ON SCHEMA {place} FROM PUBLIC, {everybody} CASCADE"
    yield f"GRANT USAGE ON SCHEMA {place} TO {everybody}"
    # Also those of identity columns, which need no grant and get none below.
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {place} FROM PUBLIC, {everybody} CASCADE"


def finish_relation(roles: Roles, schema: str, relation: Relation) -> Iterator[str]:
    """Everything that makes one table, or view, part of the wall."""
    place = f"{quoted(schema)}.{quoted(relation.name)}"
    everybody = f"{roles.exec}, {roles.daemon}, {roles.reader}"
    # Rights on single columns go with those on the whole.
    yield f"REVOKE ALL ON {place} FROM PUBLIC, {everybody} CASCADE"
    if relation.is_view:
        yield f"GRANT SELECT ON {place} TO {everybody}"
        return
    if relation.keyed:
        yield from _framework_columns(place)
    yield from _row_level_security(roles, place)
    yield _guard(roles, place)
    yield from _grants(roles, place, relation)
    for name in relation.serials:
        sequence = f"{quoted(schema)}.{quoted(name)}"
        yield f"REVOKE ALL ON SEQUENCE {sequence} FROM PUBLIC, {everybody} CASCADE"
        yield f"GRANT USAGE ON SEQUENCE {sequence} TO {roles.exec}, {roles.daemon}"


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


def _row_level_security(roles: Roles, place: str) -> Iterator[str]:
    yield (
        f"ALTER TABLE {place}"
        f" ALTER COLUMN {TENANT_ID} SET DEFAULT harvestd_api.tenant(),"
        f" ALTER COLUMN {TENANT_ID} SET NOT NULL,"
        " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    )
    # Without the SELECT the function runs for every row: two to five times slower.
    own = f"({TENANT_ID} = (SELECT harvestd_api.tenant()))"
    policies = {
        "harvestd_tenant": f"TO {roles.exec} USING {own} WITH CHECK {own}",
        "harvestd_daemon": f"TO {roles.daemon} USING (true) WITH CHECK (true)",
        "harvestd_reader": f"FOR SELECT TO {roles.reader} USING (true)",
    }
    for name, admits in policies.items():
        yield f"DROP POLICY IF EXISTS {name} ON {place}"
        yield f"CREATE POLICY {name} ON {place} {admits}"


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


def _grants(roles: Roles, place: str, relation: Relation) -> Iterator[str]:
    yield f"GRANT SELECT, INSERT ON {place} TO {roles.exec}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {place} TO {roles.daemon}"
    yield f"GRANT SELECT ON {place} TO {roles.reader}"
    if relation.keyed:
        # By column: with UPDATE on the whole table, a seat could LOCK it against all tenants.
        columns = dict.fromkeys((*relation.changeable, *FRAMEWORK_COLUMNS))
        yield f"GRANT UPDATE ({', '.join(map(quoted, columns))}) ON {place} TO {roles.exec}"
