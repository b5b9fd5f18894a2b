"""The git source at work: real repositories, through the real daemon, into a real PostgreSQL."""

from __future__ import annotations

import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harvestd.catalog.discover import bundled_plugin_dir
from harvestd.execution.runner import cache_folder
from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import MONDAY, an_upstream, config


async def shas(url: str, tenant_id: str = "acme") -> list[str]:
    """The commits that a tenant has, each as often as it has it."""
    rows = await query(
        url, "SELECT sha FROM git.commit WHERE tenant_id = $1 ORDER BY sha", tenant_id
    )
    return [row["sha"] for row in rows]


async def states(url: str) -> dict[str, dict[str, Any]]:
    """The run rows by tenant/script."""
    rows = await query(url, "SELECT *, status::text AS word FROM data_source_run")
    return {f"{row['tenant_id']}/{row['script']}": row for row in rows}


async def test_two_tenants_with_one_repository_get_rows_of_their_own(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "up stream")
    upstream.chain(30)
    for tenant_id in ("acme", "globex"):
        await a_tenant(database_url, tenant_id, config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        written = "SELECT sum(rows_written)::int AS n FROM data_source_run"
        before = await query(database_url, written)
        await cycle(app)
        assert await query(database_url, written) == before  # nothing is written again
        await query(database_url, "DELETE FROM tenant_data_source_config WHERE tenant_id = 'acme'")
        upstream.chain(5, on=upstream.git("rev-parse", "main"), name="later")
        await cycle(app)

    assert len(await shas(database_url, "acme")) == 30
    assert set(await shas(database_url, "globex")) == upstream.reachable()
    assert len(await shas(database_url, "globex")) == 35


async def test_commits_that_arrive_late_with_old_dates_are_not_missed(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    first = upstream.chain(10)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        old = upstream.commit(parents=[first[0]], seconds=MONDAY - 40 * 365 * 86400)
        upstream.point("refs/heads/late", old)
        upstream.point("refs/tags/far", upstream.commit(parents=[old], seconds=2_051_222_400))
        await cycle(app)
    assert set(await shas(database_url)) == upstream.reachable()


async def test_a_lost_mirror_and_a_vanished_head_fall_back_to_the_full_walk(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    upstream.chain(20)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        shutil.rmtree(cache_folder(tmp_path / "data" / "cache", "acme", "git"))
        before = await shas(database_url)
        upstream.point("refs/heads/main", None)
        upstream.chain(7, name="other")  # a force push: nothing of the old history is left
        upstream.git("gc", "--quiet", "--prune=now")
        await cycle(app)
        after = await states(database_url)
    assert after["acme/commit"]["word"] == "COMPLETED", after["acme/commit"]["error"]
    assert set(await shas(database_url)) == set(before) | upstream.reachable()
    assert len(await shas(database_url)) == len(set(await shas(database_url)))


async def test_odd_commits_load_and_an_empty_repository_is_no_error(
    database_url: str, tmp_path: Path
) -> None:
    upstream, empty = an_upstream(tmp_path / "odd"), an_upstream(tmp_path / "empty")
    tree = upstream.tree({"file": b"text\n"})
    head = b"tree " + tree.encode() + b"\n"
    latin = upstream.write(
        head + b"author J\xe9r\xf4me <j@x.org> 31536000 +0000\n"
        b"committer J\xe9r\xf4me <j@x.org> 2051222400 -0330\nencoding ISO-8859-1\n\nD\xe9j\xe0 vu\n"
    )
    big = upstream.write(
        head
        + b"author A <a@x.org> 1 +0000\ncommitter A <a@x.org> 1 +0000\n\nbig\n\n"
        + b"x" * 1_000_000
        + b"\n"
    )
    broken = upstream.write(
        head + b"author A <a@x.org> 99999999999999 +0000\n"
        b"committer A <a@x.org> 1 +0000\n\nbad \xff bytes\n"
    )
    for name, sha in (("main", latin), ("latin", latin), ("big", big), ("broken", broken)):
        upstream.point(f"refs/heads/{name}", sha)
    await a_tenant(database_url, "acme", config(upstream.path, empty.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        ended = await states(database_url)
    assert ended["acme/commit"]["word"] == "COMPLETED", ended["acme/commit"]["error"]
    rows = {row["sha"]: row for row in await query(database_url, "SELECT * FROM git.commit")}
    assert rows[latin]["author_name"] == "Jérôme"
    assert rows[latin]["subject"] == "Déjà vu"
    assert rows[latin]["authored_at"] == datetime(1971, 1, 1, tzinfo=UTC)
    assert rows[latin]["committed_at"] == datetime(2035, 1, 1, tzinfo=UTC)
    assert rows[latin]["committer_offset_minutes"] == -210
    assert len(rows[big]["body"]) == 1_000_000
    assert rows[broken]["authored_at"] is None
    assert "bad" in rows[broken]["subject"]
    repositories = await query(database_url, "SELECT url, head FROM git.repository ORDER BY url")
    assert [row["head"] is None for row in repositories] == [True, False]


@pytest.mark.parametrize(
    "address",
    ["--upload-pack=touch /tmp/x", "ext::sh -c id", "http://example.org/x.git", "relative/path"],
)
async def test_an_address_that_git_could_misuse_fails_only_its_own_run(
    address: str, database_url: str, tmp_path: Path
) -> None:
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": shlex.quote(address)}})
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        ended = await states(database_url)
    assert ended["acme/repository"]["word"] == "FAILED"
    assert ended["acme/commit"]["blocked_by"] == "git/repository"


async def test_local_paths_are_refused_unless_the_operator_admits_them(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    upstream.chain(1)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path, allow_local_repositories=False) as app:
        await cycle(app)
        ended = await states(database_url)
    assert "HARVESTD_ALLOW_LOCAL_REPOSITORIES" in ended["acme/repository"]["error"]


async def test_the_tables_of_an_older_version_go_on_and_fill_up(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    upstream.chain(4)
    older = tmp_path / "plugins" / "git"
    shutil.copytree(bundled_plugin_dir() / "git", older)
    schema = older / "schema.sql"
    schema.write_text(schema.read_text().partition("-- By committer date")[0])
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        before = await states(database_url)
    shutil.rmtree(older)
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        after = await states(database_url)

    assert {name for name, run in before.items() if run["word"] == "COMPLETED"} == {
        "acme/repository",
        "acme/commit",
    }
    assert {run["word"] for run in after.values()} == {"COMPLETED"}
    assert {name: run["rows_written"] for name, run in after.items()} == {
        **{"acme/repository": 1, "acme/commit": 4, "acme/file_change": 5, "acme/ref": 1},
        "acme/activity": 1,
    }
