"""The fixtures that pytest has wherever harvestd[testing] is installed; no conftest.py needed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

try:
    import pytest_asyncio
except ImportError:  # pytest without the extra `testing`: its other tests must not suffer
    pytest_asyncio = None  # type: ignore[assignment]

# Nothing else is imported before a test asks for a fixture.
if TYPE_CHECKING:
    from harvestd.loading.facade import Db
    from harvestd.testing.harvest import Harvest
    from harvestd.testing.server import Server


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Stay out of the way of whatever else is tested where harvestd is installed."""
    # Of two plugins' fixtures with one name the later plugin's is used, and their order is chance.
    # pytest-django has a db too, without which none of a project's tests reaches its database.
    others = [
        one
        for one in config.pluginmanager.get_plugins()
        if getattr(one, "__name__", "") != __name__
        and Path(getattr(one, "__file__", None) or "").name != "conftest.py"
    ]
    if any(hasattr(one, "db") for one in others):
        globals().pop("db", None)


@pytest.fixture(scope="session")
def harvestd_server() -> Iterator[Server]:
    """A PostgreSQL for this test session (about a second), removed with all that is in it."""
    from harvestd.testing.server import running_server

    with running_server() as server:
        yield server


@pytest.fixture
def source_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the data source under test: that of the test file.  Override it elsewhere."""
    return request.path.parent


@pytest.fixture
def tenant_id() -> str:
    """A tenant whom no other test has, so that all tests may share a database."""
    return f"acme-{secrets.token_hex(4)}"


@pytest.fixture
def env() -> Mapping[str, str]:
    """The tenant's configuration for the data source.  Override it."""
    return {}


@pytest.fixture
def other_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """Another tenant's, for StandardSuite: best with another upstream, so that a mix-up shows."""
    return env


@pytest.fixture
def harvest(
    harvestd_server: Server,
    source_folder: Path,
    tenant_id: str,
    env: Mapping[str, str],
    tmp_path: Path,
) -> Harvest:
    """The data source in a database, and a tenant who has nothing yet."""
    from harvestd.testing.harvest import Harvest

    return Harvest(
        source_folder, harvestd_server, tenant_id=tenant_id, env=env, cache_root=tmp_path / "cache"
    )


if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def db(harvest: Harvest) -> AsyncIterator[Db]:
        """The ``db`` of a run of the tenant that is under way."""
        async with harvest.db() as made:
            yield made
