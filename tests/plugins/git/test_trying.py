"""`harvestd try` of the git scripts, beside a repository on this machine."""

from __future__ import annotations

from pathlib import Path

from tests.builders import a_tenant
from tests.cli.shell import harvestd
from tests.plugins.git.world import an_upstream


async def test_a_local_repository_can_be_tried_wherever_it_lies(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": str(upstream.path)}})
    settings = {"DATA_DIR": str(tmp_path / "data"), "ALLOW_LOCAL_REPOSITORIES": "1"}
    await harvestd("migrate", url=database_url, settings=settings)
    done = await harvestd(
        *("try", "git/repository", "--tenant", "acme", "--json"),
        url=database_url,
        settings=settings,
    )

    assert done.code == 0, done.err
    assert [(table["name"], table["inserted"]) for table in done.json["tables"]] == [
        ("repository", 1)
    ]
