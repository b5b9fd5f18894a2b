"""Upstreams whose objects are made to take all memory, or not to fit into the database."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from plugins.data_sources.git import _changes, _git, _mirror, _parse, _reading

from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import MONDAY, Upstream, an_upstream, config, open_mirror, walk


def a_commit_of(upstream: Upstream, tree: str) -> str:
    """A commit of a tree, to which main leads."""
    commit = upstream.write(b"tree %s\ncommitter C <c@x> %d +0000\n\nm" % (tree.encode(), MONDAY))
    upstream.point("refs/heads/main", commit)
    return commit


def a_tree_with_one_path(upstream: Upstream, path: bytes) -> str:
    """A tree that no git command would make."""
    blob = bytes.fromhex(upstream.git("hash-object", "-w", "--stdin"))
    raw = b"100644 " + path + b"\0" + blob
    whole = b"tree %d\x00" % len(raw) + raw
    sha = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    target = upstream.path / "objects" / sha[:2] / sha[2:]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(zlib.compress(whole))
    return sha


async def test_a_tree_that_stands_for_billions_of_files_takes_a_bounded_memory_and_no_new_clone(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = replace(_reading.ANSWERS, memory_bytes=64 << 20)
    monkeypatch.setattr(_reading, "ANSWERS", answers)
    tree = upstream.tree({f"f{number}": b"x" for number in range(10)})
    for _ in range(9):
        lines = "".join(f"040000 tree {tree}\td{number}\n" for number in range(10))
        tree = upstream.git("mktree", stdin=lines.encode())
    a_commit_of(upstream, tree)
    mirror = await open_mirror(upstream, tmp_path / "cache")

    with pytest.raises(_git.GitError, match="takes more than git may have") as refused:
        await walk(mirror, read=_changes.read)

    assert not isinstance(refused.value, _mirror.Damaged)


async def test_a_commit_of_more_files_than_can_be_held_is_named(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_changes, "HELD_BYTES_MAX", 100 * _changes.ROW_BYTES)
    small = upstream.grow({f"f{number}": "x" for number in range(60)})
    other = upstream.grow({f"g{number}": "y" for number in range(30)}, parents=[small])
    mirror = await open_mirror(upstream, tmp_path / "cache")
    assert len((await walk(mirror, read=_changes.read)).rows) == 150

    large = upstream.grow({f"h{number}": "z" for number in range(110)}, parents=[other])
    mirror = await open_mirror(upstream, tmp_path / "cache")
    with pytest.raises(_git.GitError, match=f"commit {large} changes more files than can be held"):
        await walk(mirror, read=_changes.read)


async def test_what_the_database_would_refuse_is_cut_or_fails_its_own_repository_alone(
    database_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    good = an_upstream(tmp_path / "good")
    good.chain(3, name="good")
    unreadable = b"\xff" * (2 * _parse.TEXT_BYTES_MAX)
    odd = upstream.commit(unreadable, author=b"\0" * _parse.TEXT_BYTES_MAX + b" <a@x> 1 +0000")
    upstream.point("refs/heads/odd", odd)
    raw = f"object {odd}\ntype commit\ntag t\ntagger T <t@x> 1 +0000\n\n".encode() + unreadable
    tag = upstream.git("hash-object", "-t", "tag", "-w", "--literally", "--stdin", stdin=raw)
    upstream.point("refs/tags/odd", tag)
    path = a_tree_with_one_path(upstream, b"p" * (2 * _reading.RECORD_BYTES_MAX))
    longest = a_commit_of(upstream, path)
    await a_tenant(database_url, "acme", config(upstream.path, good.path))
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    rows = await query(database_url, "SELECT script, status::text AS word FROM data_source_run")
    words = {row["script"]: row["word"] for row in rows}
    assert words == dict.fromkeys(("repository", "commit", "ref", "activity"), "COMPLETED") | {
        "file_change": "FAILED"
    }
    commits = await query(database_url, "SELECT sha, body_cut FROM git.commit")
    expected = dict.fromkeys((*good.reachable(), longest), False) | {odd: True}
    assert {row["sha"]: row["body_cut"] for row in commits} == expected
    changed = await query(database_url, "SELECT DISTINCT sha FROM git.file_change")
    assert {row["sha"] for row in changed} >= good.reachable()
    [run] = await query(
        database_url, "SELECT error FROM data_source_run WHERE script = 'file_change'"
    )
    assert "holds a path of more than 1,048,576 bytes" in run["error"]
