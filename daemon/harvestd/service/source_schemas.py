"""Each data source's tables, as its schema.sql says: made beside the cycle, never waited for long.

An index on a large table takes minutes, and no other data source is concerned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from harvestd.catalog.discover import Source
from harvestd.database.pool import Database
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError, SchemaRefused, Unreachable
from harvestd.loading.schemas import apply_source_schema
from harvestd.loading.shapes import Shapes
from harvestd.observing.logs import get_logger

log = get_logger()

PATIENCE_SECONDS = 2.0
"""How long a cycle waits: the usual schema.sql is done by then, and its runs start at once."""
AT_ONCE = 4
REFUSED_AGAIN_SECONDS = 300.0
UNDER_WAY = "it is being applied; next: nothing, its runs go on by themselves once it is done"


class SourceSchemas:
    """What became of the schema.sql of each data source, in this process."""

    def __init__(
        self, database: Database, roles: Roles, shapes: Shapes, ask_cycle: Callable[[str], None]
    ) -> None:
        self._database = database
        self.roles = roles
        self._shapes = shapes
        self._ask_cycle = ask_cycle
        self._places = asyncio.Semaphore(AT_ONCE)
        self._applied: dict[str, str] = {}
        self._refused: dict[str, tuple[str, float, HarvestdError]] = {}
        """Of each data source the text, and of a refused one when that was, and why."""
        self._applying: dict[str, asyncio.Task[None]] = {}

    async def prepare(self, sources: Iterable[Source], *, again: bool) -> dict[str, str]:
        """Apply what is new; of each source whose tables are not there (yet), why.

        A refused file is tried ``again`` when asked for, or after a while, or changed, or when
        a table was only in use.  Raises: Unreachable.
        """
        wanted = [source for source in sources if source.schema_sql is not None]
        for source in wanted:
            if source.name not in self._applying and self._is_due(source, again=again):
                task = asyncio.create_task(self._apply(source), name=f"schema of {source.name}")
                self._applying[source.name] = task
        await self.wait(PATIENCE_SECONDS)
        ended = [name for name, task in self._applying.items() if task.done()]
        for task in [self._applying.pop(name) for name in ended]:
            task.result()
        for task in self._applying.values():
            task.remove_done_callback(self._tell)
            task.add_done_callback(self._tell)
        return {source.name: why for source in wanted if (why := self._why_not(source))}

    async def wait(self, seconds: float | None = None) -> bool:
        """Until none is under way, or so long; whether any was."""
        if not self._applying:
            return False
        await asyncio.wait(self._applying.values(), timeout=seconds)
        return True

    async def close(self) -> None:
        """Give up what is under way; the server rolls it back."""
        for task in self._applying.values():
            task.cancel()
        await asyncio.gather(*self._applying.values(), return_exceptions=True)

    def _is_due(self, source: Source, *, again: bool) -> bool:
        if self._applied.get(source.name) == source.schema_sql:
            return False
        refused, refused_at, error = self._refused.get(source.name, (None, 0.0, None))
        recently = time.monotonic() - refused_at < REFUSED_AGAIN_SECONDS
        in_use = isinstance(error, SchemaRefused) and error.in_use
        return refused != source.schema_sql or not recently or again or in_use

    def _why_not(self, source: Source) -> str | None:
        if source.name in self._applying:
            return UNDER_WAY
        refused, _, error = self._refused.get(source.name, (None, 0.0, None))
        return str(error) if refused == source.schema_sql else None

    def _tell(self, _: asyncio.Task[None]) -> None:
        self._ask_cycle("a schema.sql has been dealt with")

    async def _apply(self, source: Source) -> None:
        assert source.schema_sql is not None
        async with self._places:
            began = time.monotonic()
            try:
                applied = await apply_source_schema(
                    self._database,
                    self.roles,
                    source=source.name,
                    schema_sql=source.schema_sql,
                )
            except Unreachable:
                raise
            except Exception as found:
                # Whatever it is, it is this source's: the others' cycle goes on.
                error = found if isinstance(found, HarvestdError) else _unforeseen(found)
                self._refused[source.name] = (source.schema_sql, time.monotonic(), error)
                log.error("schema_refused", source=source.name, code=error.code, what=str(error))
                return
        self._refused.pop(source.name, None)
        self._applied[source.name] = source.schema_sql
        if applied:
            self._shapes.forget()
            seconds = round(time.monotonic() - began, 3)
            log.info("schema_applied", source=source.name, seconds=seconds)


def _unforeseen(error: Exception) -> HarvestdError:
    return HarvestdError(
        f"{type(error).__name__} inside harvestd, while it applied a schema.sql",
        why="that is a mistake of harvestd",
        next_step="report it together with the file",
    )
