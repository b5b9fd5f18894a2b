"""What ``commit`` and ``file_change`` have in common: every commit once, oldest first.

A bookmark per repository (its name is the repository's id) holds the heads already loaded.  Each
chunk and the bookmark it moves are stored in one transaction, so a run that dies anywhere goes on
where it stopped (``_frontier.py`` has the proof).  A mirror that was lost, a head that vanished
or a history that got longer at its old end only make the next walk fuller; rows that are as they
were are not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from harvestd.plugin import progress

from . import _address, _each, _frontier, _mirror, _walk


async def load_commits(
    env: Mapping[str, str], db: Any, read: _walk.Read, *, table: str, key: Sequence[str]
) -> None:
    """Store what ``read`` says of each commit of each repository that was not stored yet.

    Raises: Unauthorised, or GitError for the repositories that failed, after all were tried.
    """
    loaded = 0  # commits of the repositories before, which progress counts too

    async def load(repository: _address.Repository, mirror: _mirror.Mirror) -> None:
        nonlocal loaded
        # A mirror may be there before its row, when `repository` could not reach the upstream.
        await db.upsert("repository", [{"id": repository.id, "url": repository.url}], key=["id"])
        bookmark = await db.bookmark(repository.id)
        stored = _frontier.Loaded.from_bookmark(bookmark, shallow=mirror.shallow)
        before = loaded
        async with aclosing(_walk.walk(mirror, stored, read)) as chunks:
            async for chunk in chunks:
                for row in chunk.rows:
                    row["repository_id"] = repository.id
                async with db.transaction():
                    if chunk.rows:
                        await db.upsert(table, chunk.rows, key=key)
                    await db.set_bookmark(repository.id, chunk.loaded.as_bookmark())
                if chunk.total:
                    loaded = before + chunk.done
                    progress(loaded, before + chunk.total)

    _each.raise_failures(await _each.for_each_repository(env, load))
