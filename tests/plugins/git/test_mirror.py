"""Mirrors: made whole or not at all, mended when damaged, shared without harm."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from plugins.data_sources.git import _access, _git, _mirror

from tests.plugins.git.world import (
    ENVIRONMENT,
    Upstream,
    an_upstream,
    first_line,
    git_for,
    hanging_git,
    open_mirror,
    repository_at,
    until_gone,
    walk,
)


def refs_of(mirror: _mirror.Mirror) -> set[str]:
    listed = Upstream(mirror.folder).git("for-each-ref", "--format=%(refname)")
    return set(listed.split())


async def test_refs_of_every_kind_come_and_go_with_the_upstream(
    upstream: Upstream, cache: Path
) -> None:
    [root] = upstream.chain(1)
    upstream.point("refs/pull/1/head", root)
    upstream.point("refs/notes/commits", root)
    first = await open_mirror(upstream, cache)
    before = refs_of(first)
    upstream.point("refs/pull/1/head", None)
    upstream.point("refs/pull/1", root)
    second = await open_mirror(upstream, cache)

    names = ("HEAD", "refs/heads/main", "refs/notes/commits", "refs/pull/1/head")
    assert before == {f"refs/upstream/{name}" for name in names}
    assert refs_of(second) == before - {"refs/upstream/refs/pull/1/head"} | {
        "refs/upstream/refs/pull/1"
    }
    assert first.refs != second.refs


async def test_nothing_is_fetched_while_the_refs_are_the_same(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(2)
    upstream.git("tag", "-a", "-m", "tag", "v1", "main")
    first = await open_mirror(upstream, cache)
    # A fetch would ask this for help; nothing else does.
    shutil.rmtree(first.folder / "objects")
    (first.folder / "objects").mkdir()

    second = await open_mirror(upstream, cache)

    assert second.refs == first.refs
    assert not list((second.folder / "objects").glob("pack/*"))


@pytest.mark.parametrize("wound", ["HEAD", "config", "packed-refs", "objects"])
async def test_a_damaged_mirror_is_cloned_again(
    wound: str, upstream: Upstream, cache: Path
) -> None:
    upstream.chain(2)
    mirror = await open_mirror(upstream, cache)
    path = mirror.folder / wound
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(b"\x00garbage\n")
    upstream.chain(1, name="more")

    mirror = await open_mirror(upstream, cache)

    assert set((await walk(mirror)).shas) == upstream.reachable()


async def test_a_ref_file_without_content_is_not_passed_over(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(2)
    mirror = await open_mirror(upstream, cache)
    upstream.point("refs/heads/new", upstream.commit(b"new\n", parents=[main[1]]))
    await open_mirror(upstream, cache)
    (mirror.folder / "refs/upstream/refs/heads/new").write_bytes(b"")  # as a power cut leaves it

    with pytest.raises(_mirror.Damaged):
        await walk(mirror)
    assert set((await walk(await open_mirror(upstream, cache))).shas) == upstream.reachable()


async def test_what_dead_processes_left_is_cleared_away(upstream: Upstream, cache: Path) -> None:
    upstream.chain(2)
    mirror = await open_mirror(upstream, cache)
    growing = mirror.folder.with_suffix(".growing")
    aside = mirror.folder.with_suffix(".aside-1")
    for half in (growing, aside):
        (half / "objects").mkdir(parents=True)
    left = [
        mirror.folder / "packed-refs.lock",
        mirror.folder / "refs/upstream/refs/heads/main.lock",
        mirror.folder / "shallow.lock",
        mirror.folder / "objects/pack/tmp_pack_x",
    ]
    for lock in left:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    upstream.chain(1, name="main")

    mirror = await open_mirror(upstream, cache)

    assert not any(path.exists() for path in (growing, aside, *left))
    assert set((await walk(mirror)).shas) == upstream.reachable()


async def test_a_clone_that_fails_leaves_no_mirror(upstream: Upstream, cache: Path) -> None:
    main = upstream.chain(2)
    blob = upstream.git("rev-parse", f"{main[0]}:number")
    (upstream.path / "objects" / blob[:2] / blob[2:]).unlink()

    with pytest.raises(_git.GitError, match="cannot be read"):
        await open_mirror(upstream, cache)

    # Nor what was received: it may be what filled the disk.
    assert [path.suffix for path in (cache / "mirrors").iterdir()] == [".lock"]


async def test_an_upstream_that_breaks_keeps_the_mirror(upstream: Upstream, cache: Path) -> None:
    main = upstream.chain(2)
    mirror = await open_mirror(upstream, cache)
    marker = mirror.folder / "the same mirror"
    marker.touch()
    [fresh] = upstream.chain(1, on=main[1])
    tree = upstream.git("rev-parse", f"{fresh}^{{tree}}")
    (upstream.path / "objects" / tree[:2] / tree[2:]).unlink()

    with pytest.raises(_git.GitError, match="cannot be read"):
        await open_mirror(upstream, cache)

    assert marker.exists()


async def test_a_path_without_a_repository_says_what_to_correct(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    for name in ("nowhere", "empty"):
        with pytest.raises(_git.GitError, match=r"there is no repository at .*; next: correct"):
            await open_mirror(Upstream(tmp_path / name), tmp_path / "cache")


async def test_an_upstream_made_anew_with_longer_names_gets_its_own_mirror(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(1)
    await open_mirror(upstream, cache)
    shutil.rmtree(upstream.path)
    again = an_upstream(upstream.path, object_format="sha256")
    tree = again.tree({})
    again.point("refs/heads/main", again.git("commit-tree", "-m", "long", tree))

    mirror = await open_mirror(again, cache)

    assert set((await walk(mirror)).shas) == again.reachable()


async def test_two_that_open_one_mirror_at_once_both_get_it(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(3)

    mirrors = await asyncio.gather(*(open_mirror(upstream, cache) for _ in range(4)))

    assert all(mirror == mirrors[0] for mirror in mirrors)
    assert set((await walk(mirrors[0])).shas) == upstream.reachable()


async def test_a_lock_that_is_never_given_back_ends_in_a_clear_error(
    upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.chain(1)
    mirror = await open_mirror(upstream, cache)
    monkeypatch.setattr(_mirror, "LOCK_SECONDS", 0.2)

    with mirror.folder.with_suffix(".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(_git.GitError, match="is in use; why: another process"):
            await open_mirror(upstream, cache)

    await open_mirror(upstream, cache)


async def test_a_git_that_outlives_its_daemon_still_holds_the_lock(
    upstream: Upstream, cache: Path
) -> None:
    git = git_for(repository_at(upstream.path), cache)
    path = cache / "some.lock"
    async with _mirror._locked(path) as lock:
        orphan = ["-c", "alias.orphan=!echo ready; exec sleep 60", "orphan"]
        async with git.started(orphan, limit=_git.LOCAL, keep=(lock,)) as child:
            assert await child.read_line() == b"ready\n"
            os.close(lock)  # as the kernel does for a daemon that was killed
            with path.open("w") as successor, pytest.raises(BlockingIOError):
                fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.open(path, os.O_RDWR)  # for the block to close
    with path.open("w") as successor:
        fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_repository_of_another_user_is_trusted_by_its_configured_path_alone(
    tmp_path: Path, cache: Path
) -> None:
    """Paths that need quoting, a work tree, a symbolic link; git is made to see another owner."""
    upstream = an_upstream(tmp_path / 'a "quoted\\ path' / "up.git")
    upstream.chain(2)
    tree = tmp_path / "work tree"
    upstream.git("clone", "-q", str(upstream.path), str(tree))
    linked = tmp_path / "linked"
    linked.symlink_to(tree)

    for path in (upstream.path, tree, linked):
        repository = repository_at(path)
        git = git_for(repository, cache)
        stranger = {**git.environment, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
        mirror = await _mirror.open_mirror(repository, replace(git, environment=stranger), cache)
        assert set((await walk(mirror)).shas) == upstream.reachable()
    other = an_upstream(tmp_path / "other.git")
    stranger["HOME"] = str(_access.prepare(cache, [repository_at(tree)]))
    with pytest.raises(_git.GitError, match="git does not trust the owner"):
        await _mirror.open_mirror(repository_at(other.path), _git.Git(stranger), cache)


async def test_the_configuration_and_hooks_of_others_have_no_influence(
    upstream: Upstream, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = upstream.chain(2)
    home = tmp_path / "home of the user"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    owned = tmp_path / "owned"
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{owned}'\n")
        (hooks / name).chmod(0o755)
    evil = f'[core]\n\thooksPath = "{hooks}"\n[url "https://evil.example/"]\n\tinsteadOf = "/"\n'
    (home / ".gitconfig").write_text(evil)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(hooks))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_REPLACE_REF_BASE", "refs/upstream/refs/replace/")
    upstream.point(f"refs/replace/{main[0]}", upstream.commit(b"another\n"))

    mirror = await open_mirror(upstream, cache)
    upstream.chain(1, on=main[1])
    mirror = await open_mirror(upstream, cache)
    subjects = {row["sha"]: row["subject"] for row in (await walk(mirror)).rows}

    assert not owned.exists()
    assert subjects[main[0]] == "main 0"


async def test_a_transport_that_is_not_the_addresss_own_is_refused_by_git_too(
    tmp_path: Path, cache: Path
) -> None:
    git = git_for(repository_at(tmp_path), cache)

    for url in (f"ext::touch {tmp_path}/owned", "https://127.0.0.1:1/a", "ssh://127.0.0.1:1/a"):
        with pytest.raises(_git.CommandFailed, match="not allowed"):
            await git.run(["ls-remote", "--", url])
    assert not (tmp_path / "owned").exists()


async def test_only_the_daemon_can_read_a_mirror(upstream: Upstream, cache: Path) -> None:
    upstream.chain(1)
    mirror = await open_mirror(upstream, cache)

    for path in (mirror.folder, mirror.folder / "objects", mirror.folder / "packed-refs"):
        assert path.stat().st_mode & 0o077 == 0


async def test_a_cancelled_clone_leaves_no_git_and_no_mirror(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(1)
    repository = repository_at(upstream.path)
    git = hanging_git(repository, cache)

    opening = asyncio.create_task(_mirror.open_mirror(repository, git, cache))
    group = os.getpgid(int(await first_line(cache / "pipe")))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    await until_gone(group)
    assert not list((cache / "mirrors").glob("*.git"))


async def test_an_upstream_that_stops_talking_ends_the_clone_with_its_reason(
    upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mirror, "FETCH", _git.Limit(seconds=600, silent_seconds=1))
    upstream.chain(1)
    repository = repository_at(upstream.path)

    opening = asyncio.create_task(
        _mirror.open_mirror(repository, hanging_git(repository, cache), cache)
    )
    group = os.getpgid(int(await first_line(cache / "pipe")))
    with pytest.raises(_git.GitError, match=r"git fetch was ended; why: it said nothing for 1 s"):
        await opening

    await until_gone(group)


def test_the_world_needs_no_identity_of_the_user() -> None:
    shown = subprocess.run(
        ["git", "var", "GIT_COMMITTER_IDENT"], env=ENVIRONMENT, capture_output=True, check=True
    )

    assert shown.stdout == b"Carl <carl@example.org> 1767571200 +0100\n"
