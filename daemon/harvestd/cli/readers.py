"""`harvestd reader`: which roles of the server read the collected data."""

from __future__ import annotations

from dataclasses import asdict

from harvestd.cli.output import note, print_json, print_rows
from harvestd.cli.reach import ask_database, changing_database
from harvestd.database.pool import Database, closing
from harvestd.database.readers import Given, Reader, add_reader, list_readers, remove_reader
from harvestd.database.roles import Roles
from harvestd.errors import DatabaseError
from harvestd.service.status import Status


def show_readers(*, as_json: bool) -> int:
    """List the readers; the exit code."""

    async def look(database: Database) -> list[Reader]:
        roles = await _roles(database)
        async with closing(await database.connect("readers")) as connection:
            return await list_readers(connection, roles)

    readers = ask_database(look)
    if as_json:
        print_json([asdict(one) for one in readers])
    elif readers:
        print_rows(
            ("role", "logs in", "reads"), [(one.role, one.may_log_in, one.reads) for one in readers]
        )
    else:
        note("no role reads but superusers; harvestd reader add ROLE lets one")
    return 0


def change_reader(role: str, *, add: bool, as_json: bool) -> int:
    """Let a role read, or no more; the exit code."""

    async def act(database: Database) -> Given:
        roles = await _roles(database)
        async with closing(await database.connect("readers")) as connection:
            return await (add_reader if add else remove_reader)(connection, roles, role)

    with changing_database() as call:
        given = call(act)
    if as_json:
        print_json({"role": role, "reads": add or given.sees_all, "changed": given.changed})
    elif given.sees_all:
        note(f"{role} sees every row without and with this: no policy holds for it")
    elif not given.changed:
        note(f"{role} {'reads' if add else 'does not read'} already; nothing was changed")
    elif add:
        note(f"{role} reads every tenant's rows of every data source, those to come included")
    else:
        note(f"{role} does not read any more; a session that is open asks anew with each statement")
    return 0


async def _roles(database: Database) -> Roles:
    overview = await Status(database).overview()
    if overview is None:
        raise DatabaseError(
            "the roles of this database are not made yet",
            next_step="harvestd migrate makes them",
        )
    return Roles(overview.hex)
