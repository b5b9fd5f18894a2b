"""Branches and tags: as the upstream shows them, and marked when they are gone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugins.data_sources.git import _mirror, _refs

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import Upstream, an_upstream, config, open_mirror, repository_at


async def refs(url: str) -> dict[str, dict[str, Any]]:
    """The stored refs by name."""
    return {row["name"]: row for row in await query(url, "SELECT * FROM git.ref")}


async def live(url: str) -> set[str]:
    """The names of those that are not marked."""
    return {name for name, row in (await refs(url)).items() if row["deleted_at"] is None}


async def ended(url: str) -> tuple[str, str]:
    """Status and error of the one run of ``ref``."""
    [row] = await query(
        url, "SELECT status::text AS word, error FROM data_source_run WHERE script = 'ref'"
    )
    return row["word"], row["error"] or ""


async def test_every_branch_and_tag_is_told_with_the_commit_that_it_leads_to(
    upstream: Upstream, tmp_path: Path
) -> None:
    [main] = upstream.chain(1)
    tree = upstream.git("rev-parse", "main^{tree}")
    blob = upstream.git("rev-parse", "main:number")
    upstream.git("tag", "light", "main")
    upstream.git("tag", "-a", "-m", "first line\nsecond\n\nbody", "v1", "main")
    upstream.git("tag", "-a", "-m", "of a tag", "v2", "v1")
    upstream.git("tag", "-a", "-m", "of a tree", "tree", tree)
    upstream.git("tag", "blob", blob)
    raw = f"object {main}\ntype commit\ntag odd\n\n".encode() + b"gr\xfc\xdfe\n"
    odd = upstream.git("hash-object", "-t", "tag", "-w", "--literally", "--stdin", stdin=raw)
    upstream.point("refs/tags/odd", odd)
    for name in ("refs/pull/1/head", "refs/notes/commits", "refs/tags/ünï/日"):
        upstream.point(name, main)

    mirror = await open_mirror(upstream, tmp_path)
    listed, _ = await _refs.listed(mirror)
    with listed:
        rows = {row["name"]: row async for row in _refs.read(mirror, listed)}

    leads = {name: (row["kind"], row["commit_sha"]) for name, row in rows.items()}
    assert leads == {
        "refs/heads/main": ("branch", main),
        "refs/tags/blob": ("tag", None),
        "refs/tags/light": ("tag", main),
        "refs/tags/odd": ("tag", main),
        "refs/tags/tree": ("tag", None),
        "refs/tags/v1": ("tag", main),
        "refs/tags/v2": ("tag", main),
        "refs/tags/ünï/日": ("tag", main),
    }
    assert rows["refs/tags/blob"]["sha"] == blob
    v1 = rows["refs/tags/v1"]
    assert v1["sha"] == upstream.git("rev-parse", "v1")
    assert (v1["tagger_name"], v1["tagger_email"]) == ("Carl", "carl@example.org")
    assert v1["tagged_at"] == datetime(2026, 1, 5, tzinfo=UTC)
    assert v1["subject"] == "first line second"
    assert (rows["refs/tags/odd"]["tagger_name"], rows["refs/tags/odd"]["tagged_at"]) == ("", None)
    assert rows["refs/tags/odd"]["subject"] == "gr\ufffd\ufffde"
    assert rows["refs/tags/light"]["subject"] is None


async def test_what_is_stored_is_known_by_its_own_digest_whoever_fetched_meanwhile(
    upstream: Upstream, tmp_path: Path
) -> None:
    first, second = upstream.chain(2)

    async def digest_of(mirror: _mirror.Mirror) -> str:
        listed, digest = await _refs.listed(mirror)
        listed.close()
        return digest

    opened = await open_mirror(upstream, tmp_path)
    before = await digest_of(opened)
    upstream.point("refs/pull/1/head", first)
    upstream.point("refs/heads/main", first)
    await open_mirror(upstream, tmp_path)  # by another script
    meanwhile = await digest_of(opened)
    upstream.point("refs/heads/main", second)

    assert before == await digest_of(await open_mirror(upstream, tmp_path))
    assert before != meanwhile


async def test_names_that_are_odd_load_and_one_that_no_index_holds_is_passed_over(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    [main] = upstream.chain(1)
    names = ['refs/heads/"', 'refs/heads/a"b$(id)`;', "refs/heads/main", "refs/heads/-x"]
    for name in [*names, "refs/heads/" + "/".join(["long" * 50] * 6)]:
        upstream.point(name, main)
    (upstream.path / "packed-refs").write_bytes(f"{main} refs/heads/".encode() + b"l\xe4t\n")
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    assert await ended(database_url) == ("COMPLETED", "")
    assert await live(database_url) == {*names, '"refs/heads/l\\344t"'}


async def test_refs_that_are_gone_are_marked_and_live_again_when_they_are_back(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    main = upstream.chain(3)
    merged = [f"refs/heads/merged/{number:03}" for number in range(100)]
    for name in merged:
        upstream.point(name, main[0])
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        everything = await live(database_url)
        for name in merged:
            upstream.point(name, None)
        await cycle(app)
        few = await live(database_url)
        upstream.point(merged[7], main[2])
        await cycle(app)

    assert await ended(database_url) == ("COMPLETED", "")
    assert (everything, few) == ({"refs/heads/main", *merged}, {"refs/heads/main"})
    assert await live(database_url) == {"refs/heads/main", merged[7]}
    assert (await refs(database_url))[merged[7]]["sha"] == main[2]
    assert len(await refs(database_url)) == 101


async def test_an_upstream_that_suddenly_has_no_refs_empties_nothing_until_somebody_says_so(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    main = upstream.chain(3)
    other = an_upstream(tmp_path / "other")
    other.chain(1, name="other")
    await a_tenant(database_url, "acme", config(upstream.path, other.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        upstream.point("refs/heads/main", None)
        other.chain(1, name="more")
        await cycle(app)
        word, error = await ended(database_url)
        in_trouble = await live(database_url)
        upstream.point("refs/heads/main", main[2])
        await cycle(app)
        recovered = await ended(database_url)
        upstream.point("refs/heads/main", None)
        await cycle(app)
        on_purpose = await ended(database_url)
        upstream_id = repository_at(upstream.path).id
        await query(
            database_url,
            "UPDATE git.ref SET deleted_at = now() WHERE repository_id = $1",
            upstream_id,
        )
        await cycle(app)

    assert word == on_purpose[0] == "FAILED"
    assert "has no branch and no tag any more; it had 1; why: " in error
    assert f"repository_id = '{upstream_id}'" in error
    assert in_trouble == {"refs/heads/main", "refs/heads/other", "refs/heads/more"}
    assert recovered == await ended(database_url) == ("COMPLETED", "")
    assert await live(database_url) == in_trouble - {"refs/heads/main"}


async def test_a_renamed_default_branch_is_another_ref_and_the_repositorys_default(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(2)
    await a_tenant(database_url, "acme", config(upstream.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        upstream.git("branch", "--move", "main", "trunk")
        await cycle(app)

    [repository] = await query(database_url, "SELECT default_branch, head FROM git.repository")
    assert repository["default_branch"] == "trunk"
    assert await live(database_url) == {"refs/heads/trunk"}
    assert set(await refs(database_url)) == {"refs/heads/main", "refs/heads/trunk"}


async def test_a_repository_that_left_the_configuration_keeps_its_refs_as_they_were(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.chain(1)
    other = an_upstream(tmp_path / "other")
    other.chain(1, name="other")
    await a_tenant(database_url, "acme", config(upstream.path, other.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        await query(
            database_url,
            "UPDATE tenant_data_source_config SET value = $1",
            config(other.path)["git"]["GIT_REPOSITORIES"],
        )
        await cycle(app)

    assert await ended(database_url) == ("COMPLETED", "")
    assert await live(database_url) == {"refs/heads/main", "refs/heads/other"}
