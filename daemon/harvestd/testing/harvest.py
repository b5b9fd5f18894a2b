"""What a test of a data source works with: its scripts, a tenant, and what the tenant then has."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from harvestd.catalog.discover import Source
from harvestd.catalog.script import Script
from harvestd.catalog.snapshot import EMPTY, Catalog, reload
from harvestd.errors import HarvestdError
from harvestd.loading.facade import Db
from harvestd.loading.fenced import Fenced
from harvestd.loading.seats import Binding
from harvestd.loading.writes import FRAMEWORK_COLUMNS, TENANT_ID, quoted
from harvestd.planning.window import backwards
from harvestd.terms import RunKey, ScriptName, Window
from harvestd.testing.replica import Around, Ran, Replica, replica_at
from harvestd.testing.server import Server

LOOKING = "testing_{}"
"""The runs under whose names a test itself uses ``db``; each a new one, since they may overlap."""


class Harvest:
    """One data source in a database of its own, and a tenant who has nothing yet.

    ``env`` is the tenant's configuration; ``allowed`` what the operator admits
    (``"local_repositories"``), to be added to; ``database_url`` is for the daemon's role, who sees
    the rows of every tenant.
    """

    def __init__(
        self,
        folder: Path,
        server: Server,
        *,
        tenant_id: str,
        env: Mapping[str, str],
        cache_root: Path,
    ) -> None:
        """Raises: HarvestdError, when the folder is no data source; SchemaRefused."""
        self.catalog = server.catalog_of(folder.parent)
        self.source = folder.name
        self.tenant_id = tenant_id
        self.env = _checked(env)
        self.allowed: set[str] = set()
        self._place = server.place_of(_source_in(self.catalog, folder))
        self._folder = folder
        self._cache_root = cache_root
        self._patched = False
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._replica: Replica
        self._users = 0

    @property
    def database_url(self) -> str:
        """Where the database is, for the daemon's role."""
        return self._place.url

    def script(self, name: str) -> Script:
        """A script of the data source.  Raises: HarvestdError, with what is wrong with it."""
        return _script_in(self.catalog, self.source, name)

    def module(self, name: str) -> ModuleType:
        """The script's module, for ``monkeypatch``."""
        self._patched = True
        return sys.modules[self.script(name).run.__module__]

    def fresh_script(self, name: str) -> Script:
        """The script from modules that are imported anew, whose variables know of no earlier run.

        The same as ever once a test has asked for its ``module``: it may be another by now.
        """
        if self._patched:
            return self.script(name)
        package = self.script(name).run.__module__.rpartition(".")[0]
        kept = {one: found for one, found in sys.modules.items() if one.startswith(f"{package}.")}
        try:
            for one in kept:
                del sys.modules[one]
            return _script_in(reload(EMPTY, [self._folder.parent]), self.source, name)
        finally:
            sys.modules.update(kept)

    def key(self, script: str, tenant_id: str | None = None) -> RunKey:
        """The run of a script, of this tenant or of another."""
        return RunKey(tenant_id or self.tenant_id, self.source, script)

    async def run(
        self,
        script: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        env: Mapping[str, str] | None = None,
        tenant_id: str | None = None,
    ) -> Ran:
        """Read ``[start, end)`` with a script, window by window, as after a reset.

        Left out, ``end`` is now and ``start`` one window before it.  A snapshot script reads what
        there is and has neither.  ``env`` and ``tenant_id`` are by default the test's own.

        Raises: what run() raised; ValueError, for a span that cannot be read.
        """
        chosen = self.script(script)
        async with self.replica() as replica:
            key = self.key(script, tenant_id)
            await replica.prepare(key, await window_of(replica, chosen, start, end))
            return await replica.attempt(chosen, key, self.env if env is None else _checked(env))

    async def rows(self, table: str, *, tenant_id: str | None = None) -> list[dict[str, Any]]:
        """The tenant's live rows, ordered by their key, or in the order in which they were written.

        Without tenant_id, written_at and deleted_at.
        """
        async with self.replica() as replica, self._db(replica, tenant_id) as db:
            shape = await replica.shapes.of(self.source, table)
            key = [name for name in (shape.unique_keys or [()])[0] if name != TENANT_ID]
            order = ", ".join(map(quoted, key)) or "ctid"
            live = "WHERE deleted_at IS NULL" if key else ""
            found = await db.fetch(f"SELECT * FROM {quoted(table)} {live} ORDER BY {order}")  # noqa: S608 - quoted
            hidden = {TENANT_ID, *FRAMEWORK_COLUMNS}
            return [{k: v for k, v in row.items() if k not in hidden} for row in found]

    @asynccontextmanager
    async def db(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        tenant_id: str | None = None,
    ) -> AsyncIterator[Db]:
        """The ``db`` of a run that is under way, over ``[start, end)``: by default the last day."""
        async with self.replica() as replica, self._db(replica, tenant_id, start, end) as db:
            yield db

    @asynccontextmanager
    async def _db(
        self,
        replica: Replica,
        tenant_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> AsyncIterator[Db]:
        name = ScriptName(self.source, LOOKING.format(secrets.token_hex(4)))
        looking = Script(name, _nothing, content_hash="")
        window = await window_of(replica, looking, start, end)
        assert window is not None
        key = self.key(name.script, tenant_id)
        await replica.prepare(key, window)
        claim = await replica.claim(key)
        fenced = Fenced(
            replica.seats, Binding(key, claim.run_no, claim.fence, window.start, window)
        )
        try:
            yield Db(fenced, replica.shapes)
        finally:
            await fenced.end()

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Replica]:
        """The part of a daemon that works on runs, until the block ends.

        Blocks that overlap share it.
        """
        async with self._turn:
            if not self._users:
                around = Around(self._cache_root, self.allowed)
                opened = replica_at(self._place, around)
                self._replica = await self._stack.enter_async_context(opened)
            self._users += 1
        try:
            yield self._replica
        finally:
            async with self._turn:
                self._users -= 1
                if not self._users:
                    await self._stack.aclose()


async def window_of(
    replica: Replica, script: Script, start: datetime | None, end: datetime | None
) -> Window | None:
    """What is to be read; None for a snapshot.  Raises: ValueError."""
    if not script.catch_up:
        if start is not None or end is not None:
            raise ValueError(f"{script.name} is a snapshot script: it has no start and no end")
        return None
    until = await replica.read_until(script)
    if end is not None and end > until:
        raise ValueError(f"end lies in the future, or within the visibility lag: {end}")
    end = end or until
    return Window(start or backwards(end, script.width), end)


def _script_in(catalog: Catalog, source: str, name: str) -> Script:
    found = catalog.script(ScriptName(source, name))
    if found is not None:
        return found
    for problem in catalog.problems:
        if problem.source == source and problem.script in (name, None):
            raise HarvestdError(str(problem))
    raise HarvestdError(
        f"{source} has no script {name!r}",
        why=f"its scripts are {', '.join(sorted(catalog.sources[source].scripts))}",
        next_step="name one of them, without .py",
    )


def _checked(env: object) -> Mapping[str, str]:
    """The configuration as it would be stored.  Raises: HarvestdError."""
    if isinstance(env, Mapping) and all(isinstance(one, str) for one in (*env, *env.values())):
        return env
    raise HarvestdError(
        "the fixture `env` is no mapping of text to text",
        why="it is the tenant's configuration, whose values are text as they are stored",
        next_step='@pytest.fixture\ndef env(): return {"SHOP_URL": ..., "SHOP_PORT": "8080"}',
    )


def _source_in(catalog: Catalog, folder: Path) -> Source:
    source = catalog.sources.get(folder.name)
    if source is not None and source.folder == folder:
        return source
    wrong = [str(one) for one in catalog.problems if one.source in (folder.name, None)]
    raise HarvestdError(
        f"{folder} is no data source",
        why="; ".join(wrong) or "it has no script that can be used",
        next_step="keep the test in the data source's folder, or give the fixture `source_folder`",
    )


async def _nothing(*_: object) -> None:
    """No script runs: the test itself uses db."""
