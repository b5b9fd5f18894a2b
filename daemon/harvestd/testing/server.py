"""The PostgreSQL of a test session: the embedded one, and a database for each data source."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from harvestd.catalog.discover import Source
from harvestd.catalog.snapshot import EMPTY, Catalog, reload
from harvestd.database.embedded import (
    DAEMON_ROLE,
    EmbeddedServer,
    embedded_server,
    in_own_loop,
    stop_abandoned,
)
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError
from harvestd.loading.schemas import apply_source_schema
from harvestd.service.preparing import prepare_database

# Not TMPDIR: a socket's path may have 107 bytes, and the server's user must get there.
PLACE = Path("/tmp")  # noqa: S108 - each session makes a folder of its own
PREFIX = "harvestd-testing-"
LEFTOVER_SECONDS = 60.0
"""A folder that is younger may be one whose server is about to start."""

# Nothing of it is worth keeping, so nothing waits for a disk.
SETTINGS = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET full_page_writes = off",
    "SELECT pg_reload_conf()",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A migrated database with the tables of one data source, for the daemon's role."""

    url: str = field(repr=False)
    roles: Roles


class Server:
    """The server of one test session."""

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded
        self._catalogs: dict[Path, Catalog] = {}
        self._places: dict[tuple[Path, str, str | None], Place] = {}
        in_own_loop(self._as_admin(*SETTINGS))

    def catalog_of(self, root: Path) -> Catalog:
        """What is below a plugin folder now; what did not change is not imported again."""
        self._catalogs[root] = reload(self._catalogs.get(root, EMPTY), [root])
        return self._catalogs[root]

    def place_of(self, source: Source) -> Place:
        """Its database, made at the first test of these tables.

        Raises: SchemaRefused, with line and statement; DatabaseError.
        """
        key = (source.folder, source.name, source.schema_sql)
        if key not in self._places:
            self._places[key] = in_own_loop(self._make(source))
        return self._places[key]

    async def _make(self, source: Source) -> Place:
        name = f"{source.name[:40]}_{secrets.token_hex(4)}"
        await self._as_admin(f"CREATE DATABASE {name} OWNER {DAEMON_ROLE}")
        url = urlsplit(self._embedded.url)._replace(path=f"/{name}").geturl()
        async with Database(url) as database:
            roles = await prepare_database(database)
            if source.schema_sql is not None:
                await apply_source_schema(
                    database, roles, source=source.name, schema_sql=source.schema_sql
                )
        return Place(url, roles)

    async def _as_admin(self, *statements: str) -> None:
        database = Database(self._embedded.admin_url)
        async with closing(await database.connect("testing")) as connection:
            for statement in statements:
                await connection.execute(statement)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server in a folder of its own, ended and removed at the end.

    So are those of sessions that were killed.
    """
    for left in PLACE.glob(f"{PREFIX}*"):
        with suppress(OSError, HarvestdError):  # gone by now
            found = left.stat()
            old = time.time() - found.st_mtime > LEFTOVER_SECONDS
            if old and found.st_uid == os.geteuid() and stop_abandoned(left):
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
    folder.chmod(0o755)
    try:
        with embedded_server(folder, own=False) as embedded:
            yield Server(embedded)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
