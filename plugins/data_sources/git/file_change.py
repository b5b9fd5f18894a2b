"""File changes: what each commit did to each file, against its first parent; oldest first.

Beside ``commit``, with bookmarks of its own (``_load.py``): either of them may be ahead of the
other, so there is no foreign key between their tables.  A commit of very many files is stored in
several transactions, and counts as loaded with the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _changes, _load

resources = ["file_change"]
dependencies = ["repository"]
plain_keys = ["GIT_REPOSITORIES"]
catch_up = False
timeout = timedelta(hours=6)


async def run(
    env: Mapping[str, str], db: Any, tenant_id: str, start_date: datetime, end_date: datetime
) -> None:
    """Store the file changes of every commit whose are not stored yet."""
    await _load.load_commits(
        env, db, _changes.read, table="file_change", key=["repository_id", "sha", "number"]
    )
