"""Refs: the branches and tags of each repository; those that are gone upstream are marked.

A snapshot script with a bookmark per repository: the digest of the refs that were stored last.

A git upstream lists its refs in one answer, which nothing cuts short unnoticed, and a mark is
taken back when the ref is there again.  So those that are gone are marked however many they are,
with one exception: an upstream that had refs and has none at all is more likely in trouble than
empty, and that is an error which says how to go on.

A repository that left GIT_REPOSITORIES keeps its refs as they were: nobody knows more of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import IO, Any

from harvestd.plugin import log

from . import _address, _each, _git, _mirror, _refs

resources = ["ref"]
dependencies = ["repository"]
plain_keys = ["GIT_REPOSITORIES"]
catch_up = False
timeout = timedelta(hours=6)

NAME_BYTES_MAX = 1_000
"""A ref of a longer name is passed over: an index of PostgreSQL's could not hold it."""
LIVE = "SELECT count(*) FROM git.ref WHERE repository_id = $1 AND deleted_at IS NULL"


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Store the refs of every repository where they are not as they were."""

    async def load(repository: _address.Repository, mirror: _mirror.Mirror) -> None:
        refs, digest = await _refs.listed(mirror)
        with refs:
            if await db.bookmark(repository.id) != digest:
                await store(repository, mirror, refs)
                await db.set_bookmark(repository.id, digest)

    async def store(
        repository: _address.Repository, mirror: _mirror.Mirror, refs: IO[bytes]
    ) -> None:
        scope = {"repository_id": repository.id}
        seen: list[tuple[str, object]] = []

        async def listed() -> AsyncGenerator[dict[str, object], None]:
            async with aclosing(_refs.read(mirror, refs)) as rows:
                async for row in rows:
                    if len(str(row["name"]).encode()) > NAME_BYTES_MAX:
                        log.warning("git_ref_passed_over", url=repository.url, sha=row["sha"])
                        continue
                    seen.append((repository.id, row["name"]))
                    yield row | scope

        # A mirror may be there before its row, when `repository` could not reach the upstream.
        await db.upsert("repository", [{"id": repository.id, "url": repository.url}], key=["id"])
        async with aclosing(listed()) as rows:
            await db.upsert("ref", rows, key=["repository_id", "name"])
        if not seen and (live := await db.fetchval(LIVE, repository.id)):
            raise _lost_all(repository, tenant_id, live)
        await db.sweep("ref", scope, seen, force=True)

    _each.raise_failures(await _each.for_each_repository(env, load))


def _lost_all(repository: _address.Repository, tenant_id: str, live: int) -> _git.GitError:
    return _git.GitError(
        f"{repository.url} has no branch and no tag any more; it had {live:,}",
        why="an upstream in trouble looks the same, so none of them was marked as deleted",
        next_step="nothing to repair if they come back; if they were removed on purpose, set "
        f"deleted_at = now() with psql in the rows of git.ref where tenant_id = '{tenant_id}' "
        f"and repository_id = '{repository.id}'",
    )
