"""The scripts of the git source pass the suite that any script must pass."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harvestd.catalog.discover import bundled_plugin_dir
from harvestd.testing import StandardSuite
from tests.plugins.git.world import an_upstream


@pytest.fixture
def source_folder() -> Path:
    return bundled_plugin_dir() / "git"


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    one = an_upstream(tmp_path / "one.git")
    first, *_ = one.chain(4)
    one.grow({"added": "a\nb\n"}, parents=[first], branch="topic")
    two = an_upstream(tmp_path / "two.git")
    two.chain(2)
    return {"GIT_REPOSITORIES": shlex.join([str(one.path), str(two.path)])}


@pytest.fixture
def other_env(tmp_path: Path) -> Mapping[str, str]:
    other = an_upstream(tmp_path / "other.git")
    other.chain(3, name="main")
    return {"GIT_REPOSITORIES": shlex.quote(str(other.path))}


class GitSuite(StandardSuite):
    """What all scripts of git need."""

    allowed = frozenset({"local_repositories"})
    points_max = 3


class TestRepository(GitSuite):
    script = "repository"


class TestCommit(GitSuite):
    script = "commit"


class TestFileChange(GitSuite):
    script = "file_change"


class TestRef(GitSuite):
    script = "ref"


class TestActivity(GitSuite):
    script = "activity"
    start, end = datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)
