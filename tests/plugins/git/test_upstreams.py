"""Upstreams that are broken, silent, unusual or change their past, through the real daemon."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plugins.data_sources.git import _address, _git, _mirror

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import (
    Content,
    Upstream,
    an_upstream,
    config,
    git_for,
    open_mirror,
    repository_at,
)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """Its name is one that needs no quotes in GIT_REPOSITORIES."""
    return an_upstream(tmp_path / "upstream")


async def runs(url: str) -> dict[str, dict[str, Any]]:
    """The run rows by script."""
    rows = await query(url, "SELECT script, status::text AS word, error FROM data_source_run")
    return {row["script"]: row for row in rows}


async def column(url: str, table: str, name: str = "sha") -> set[str]:
    """What a column of a table holds."""
    return {row[name] for row in await query(url, f"SELECT {name} FROM git.{table}")}


@contextmanager
def a_silent_listener() -> Iterator[int]:
    """A port of this machine that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def processes_naming(text: str) -> list[str]:
    """The command lines of this machine that hold ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in words:
            found.append(words)
    return found


@pytest.mark.parametrize("scheme", ["https", "ssh"])
async def test_a_host_that_accepts_and_says_nothing_is_given_up_and_no_child_stays(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mirror, "LISTING", _git.Limit(seconds=1))
    with a_silent_listener() as port:
        place = f"127.0.0.1:{port}/silent/{tmp_path.name}"
        [repository] = _address.parse_repositories(f"{scheme}://{place}", local_allowed=False)
        with pytest.raises(_git.GitError, match=r"git ls-remote was ended; why: it took 1 s; next"):
            await _mirror.open_mirror(repository, git_for(repository, tmp_path), tmp_path)

        assert processes_naming(f"silent/{tmp_path.name}") == []


async def test_a_mirror_that_several_find_damaged_is_cloned_again_once(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(2)
    repository = repository_at(upstream.path)
    found = [await open_mirror(upstream, tmp_path) for _ in range(3)]

    made = [await _mirror.remake(mirror, repository, tmp_path) for mirror in found]

    assert made[0].made_at != found[0].made_at
    assert {mirror.made_at for mirror in made} == {made[0].made_at}


async def test_repositories_of_a_server_that_does_not_answer_wait_for_those_of_others(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(1)
    stored: list[set[str]] = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stored.append(await column(database_url, "repository", "url"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    place = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    addresses = f"{place}/a {place}/b '{upstream.path}'"
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": addresses}})
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
    server.close()

    assert stored[:2] == [set(), {str(upstream.path)}]


@pytest.mark.parametrize("wound", ["missing", "corrupt"])
@pytest.mark.parametrize("what", ["main", "main^{tree}", "main:number"])
async def test_an_upstream_with_a_bad_object_is_named_and_the_others_load(
    wound: str, what: str, database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(3)
    good = an_upstream(tmp_path / "good")
    good.chain(2, name="good")
    bad = upstream.git("rev-parse", what)
    stored = upstream.path / "objects" / bad[:2] / bad[2:]
    stored.unlink()
    if wound == "corrupt":
        stored.write_bytes(b"no object at all")
    await a_tenant(database_url, "acme", config(upstream.path, good.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    ended = await runs(database_url)
    for script in ("commit", "file_change", "ref"):
        assert ended[script]["word"] == "FAILED"
        assert (
            f"{upstream.path} cannot be read, since objects are damaged or missing there"
            in ended[script]["error"]
        )
    assert ended["activity"]["word"] == "PENDING"
    assert await column(database_url, "commit") == good.reachable()
    assert await column(database_url, "file_change") == good.reachable()
    assert await column(database_url, "ref", "name") == {"refs/heads/good"}


async def test_a_force_push_keeps_the_commits_and_their_changes_and_moves_the_ref(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    old = upstream.chain(5)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        upstream.point("refs/heads/main", None)
        upstream.git("gc", "--quiet", "--prune=now")
        other = upstream.chain(4, name="other")
        upstream.point("refs/heads/main", other[-1])
        upstream.point("refs/heads/other", None)
        await cycle(app)

    assert await column(database_url, "commit") == {*old, *other}
    assert await column(database_url, "file_change") == {*old, *other}
    refs = await query(database_url, "SELECT name, commit_sha, deleted_at FROM git.ref")
    assert [tuple(row.values()) for row in refs] == [("refs/heads/main", other[-1], None)]


async def test_submodules_octopus_merges_and_a_detached_head_load_like_anything_else(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    root = upstream.grow({"a": "1\n"})
    sides = [upstream.grow({"a": "1\n", f"b{n}": "1\n"}, parents=[root]) for n in range(4)]
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = https://127.0.0.1:1/nowhere.git\n'
    files: dict[str, Content] = {".gitmodules": modules, "lib": ("160000", "5" * 40)}
    octopus = upstream.grow({"a": "1\n"} | files, parents=[root, *sides])
    upstream.git("update-ref", "--no-deref", "HEAD", octopus)
    upstream.point("refs/heads/main", root)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    ended = await runs(database_url)
    assert {run["word"] for run in ended.values()} == {"COMPLETED"}, ended
    [merge] = await query(database_url, "SELECT * FROM git.commit WHERE sha = $1", octopus)
    assert merge["parents"] == [root, *sides]
    changes = await query(
        database_url, "SELECT path, mode FROM git.file_change WHERE sha = $1 ORDER BY 1", octopus
    )
    assert [tuple(row.values()) for row in changes] == [
        (".gitmodules", "100644"),
        ("lib", "160000"),
    ]
    [repository] = await query(database_url, "SELECT default_branch, head FROM git.repository")
    assert tuple(repository.values()) == (None, octopus)
    assert await column(database_url, "ref", "commit_sha") == {root}


async def test_addresses_of_one_repository_are_one_when_they_are_spelt_alike_else_several(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(2)
    link = tmp_path / "link"
    link.symlink_to(upstream.path)
    addresses = f"{upstream.path} {upstream.path}/./ file://{upstream.path} {link}"
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": addresses}})
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    assert {run["word"] for run in (await runs(database_url)).values()} == {"COMPLETED"}
    assert await column(database_url, "repository", "url") == {str(upstream.path), str(link)}
    [counted] = await query(
        database_url, "SELECT count(*)::int AS n, count(DISTINCT sha)::int AS shas FROM git.commit"
    )
    assert tuple(counted.values()) == (4, 2)


async def test_an_upstream_without_all_of_its_history_loads_and_fills_when_it_gets_it(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    main = upstream.chain(6)
    shallow = Upstream(tmp_path / "shallow")
    source = f"file://{upstream.path}"
    upstream.git("clone", "-q", "--bare", "--depth=2", source, str(shallow.path))
    await a_tenant(database_url, "acme", config(shallow.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        first = await column(database_url, "commit"), await column(database_url, "file_change")
        shallow.git("fetch", "-q", "--unshallow", source, "main")
        await cycle(app)

    assert first == ({*main[4:]}, {main[5]})
    assert await column(database_url, "commit") == await column(database_url, "file_change")
    assert await column(database_url, "commit") == {*main}


async def test_ten_thousand_commits_load_and_a_lost_mirror_writes_none_of_them_again(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    stream = "".join(
        f"commit refs/heads/main\ncommitter C <c@x> {1_600_000_000 + number} +0000\ndata 2\nc\n"
        f"M 100644 inline f{number % 50}\ndata {len(str(number))}\n{number}\n\n"
        for number in range(10_000)
    )
    upstream.git("fast-import", "--quiet", stdin=stream.encode())
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        written = await rows_written(database_url)
        shutil.rmtree(tmp_path / "data" / "cache")
        await cycle(app)

    assert written == {"repository": 1, "commit": 10_000, "file_change": 10_000, "ref": 1} | {
        "activity": written["activity"]
    }
    assert await rows_written(database_url) == written


async def rows_written(url: str) -> dict[str, int]:
    """By script, since the beginning."""
    rows = await query(url, "SELECT script, rows_written::int AS n FROM data_source_run")
    return {row["script"]: row["n"] for row in rows}
