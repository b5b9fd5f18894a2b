"""Repositories: one row of ``git.repository`` for each address in GIT_REPOSITORIES.

Keys: ``GIT_REPOSITORIES``, one or more addresses, split like a shell line (quote a path with a
space); ``GIT_TOKEN``, optional, what https hosts take as a password.  The addresses are no
secret: credentials belong into GIT_TOKEN (inside an address they work, and show in listings).
A snapshot: each run says all there is.

Reading order of this data source: this file, ``commit.py``, then ``_load.py`` and ``_walk.py``
(which commits), ``_frontier.py`` (why none is missed), ``_commits.py`` and ``_changes.py`` (what
is read of them), ``_mirror.py`` (the copy they are read from), ``_git.py`` and ``_access.py``
(how git is run), ``_address.py``, ``_parse.py``.  ``activity.py`` is the one with windows.

If some of several repositories fail, the others get their rows and this run completes, or the
scripts that need it would load nothing at all; they then report the failing ones.  If all fail,
this run fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _address, _each, _facts, _mirror

resources = ["repository"]
plain_keys = ["GIT_REPOSITORIES"]
catch_up = False
timeout = timedelta(hours=6)  # a first clone cannot be resumed


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Bring each mirror up to date and store what its repository is now."""
    loaded = 0

    async def load(repository: _address.Repository, mirror: _mirror.Mirror) -> None:
        nonlocal loaded
        known = await db.bookmark(repository.id)
        facts = known if _facts.are_of(known, mirror) else await _facts.find(mirror)
        async with db.transaction():
            await db.upsert("repository", [_facts.row(repository, mirror, facts)], key=["id"])
            if facts != known:
                await db.set_bookmark(repository.id, facts)
        loaded += 1

    failures = await _each.for_each_repository(env, load)
    if not loaded:
        _each.raise_failures(failures)
