"""Commits: everything reachable from any ref or HEAD, whatever its date, oldest first.

A snapshot script with a bookmark per repository (its name is the repository's id): the heads
already loaded.  Each chunk and the bookmark it moves are stored in one transaction, so a run
that dies anywhere goes on where it stopped (``_frontier.py`` has the proof).  A mirror that
was lost, a head that vanished or a history that got longer at its old end only make the next
walk fuller; rows that are as they were are not written again.

Commits that no ref leads to any more (a force push) stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

from harvestd.plugin import progress

from . import _address, _each, _frontier, _mirror, _walk

resources = ["commit"]
dependencies = ["repository"]
plain_keys = ["GIT_REPOSITORIES"]
catch_up = False
timeout = timedelta(hours=6)


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Store every commit that is not stored yet."""
    loaded = 0  # commits of the repositories before, which progress counts too

    async def load(repository: _address.Repository, mirror: _mirror.Mirror) -> None:
        nonlocal loaded
        # A mirror may be there before its row, when `repository` could not reach the upstream.
        await db.upsert("repository", [{"id": repository.id, "url": repository.url}], key=["id"])
        bookmark = await db.bookmark(repository.id)
        stored = _frontier.Loaded.from_bookmark(bookmark, shallow=mirror.shallow)
        before = loaded
        async with aclosing(_walk.walk(mirror, stored)) as chunks:
            async for chunk in chunks:
                for row in chunk.rows:
                    row["repository_id"] = repository.id
                async with db.transaction():
                    if chunk.rows:
                        await db.upsert("commit", chunk.rows, key=["repository_id", "sha"])
                    await db.set_bookmark(repository.id, chunk.loaded.as_bookmark())
                if chunk.rows:
                    loaded = before + chunk.done
                    progress(loaded, before + chunk.total)

    _each.raise_failures(await _each.for_each_repository(env, load))
