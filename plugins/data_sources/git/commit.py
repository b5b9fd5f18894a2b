"""Commits: everything reachable from any ref or HEAD, whatever its date, oldest first.

A snapshot script that keeps which commits it has in bookmarks (``_load.py``).  Commits that no
ref leads to any more (a force push) stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _commits, _load

resources = ["commit"]
dependencies = ["repository"]
plain_keys = ["GIT_REPOSITORIES"]
catch_up = False
timeout = timedelta(hours=6)


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Store every commit that is not stored yet."""
    await _load.load_commits(env, db, _commits.read, table="commit", key=["repository_id", "sha"])
