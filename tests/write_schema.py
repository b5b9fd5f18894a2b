"""Write sql/schema.sql anew from the migrations: `python -m tests.write_schema`."""

from __future__ import annotations

import asyncio
import re
import subprocess
from urllib.parse import unquote, urlsplit

import asyncpg

from harvestd.database.embedded_programs import find_package
from harvestd.database.migrations import migrate
from harvestd.database.pool import closing
from harvestd.database.statements import sql_root
from tests.clusters import (
    DEFAULT_VERSION,
    Cluster,
    create_daemon_role,
    create_database,
    running_cluster,
)

HEADER = """\
-- The schema that all migrations together make, on an empty database.  Generated: change the
-- migrations and run `make schema`.  Roles and their rights are not here: see database/roles.py.
"""
# Comments with versions, and settings of the dump's own session, say nothing about the schema.
NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)\n", re.M)


def dump_schema(cluster: Cluster, url: str) -> str:
    """The text of schema.sql for the migrated database at ``url``, by the package's pg_dump."""
    parts = urlsplit(url)
    said = subprocess.run(
        [
            str(find_package() / f"pginstall{DEFAULT_VERSION}" / "bin" / "pg_dump"),
            *("--schema-only", "--no-owner", f"--username={parts.username}"),
            *(f"--host={cluster.sockets}", f"--dbname={unquote(parts.path[1:])}"),
        ],
        env={"PGPASSWORD": unquote(parts.password or "")},
        check=True,
        capture_output=True,
        text=True,
    )
    body = re.sub(r"\n{3,}", "\n\n", NOISE.sub("", said.stdout)).strip()
    return f"{HEADER}\n{body}\n"


async def write_schema() -> None:
    """Migrate a database on a server of our own and write what it then has."""
    with running_cluster(DEFAULT_VERSION) as cluster:
        await create_daemon_role(cluster)
        url = cluster.url(await create_database(cluster))
        async with closing(await asyncpg.connect(url)) as connection:
            await migrate(connection, explicit=True)
        path = sql_root() / "schema.sql"
        path.write_text(dump_schema(cluster, url), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(write_schema())
