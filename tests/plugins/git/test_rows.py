"""What a walk says about each commit: the texts, dates and numbers that git itself shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugins.data_sources.git import _facts, _reading

from tests.plugins.git.world import Upstream, open_mirror, repository_at, walk


async def test_numbers_are_those_of_git_log_against_the_first_parent(
    upstream: Upstream, cache: Path
) -> None:
    text = b"".join(b"line %d\n" % number for number in range(50))
    root = upstream.commit(files={"a": text, "b": b"b\n", "picture": b"\x00\x01" * 99})
    renamed = upstream.commit(parents=[root], files={"new": text + b"more\n", "b": b"c\nd\n"})
    side = upstream.commit(parents=[root], files={"a": text, "b": b"b\n", "side": b"1\n2\n"})
    merge = upstream.commit(
        parents=[renamed, side], files={"new": text + b"more\n", "b": b"c\nd\n", "side": b"1\n2\n"}
    )
    empty = upstream.commit(parents=[merge], files={"new": text + b"more\n", "b": b"c\nd\n"})
    upstream.point("refs/heads/main", empty)

    walked = await walk(await open_mirror(upstream, cache))

    for row in walked.rows:
        options = ["--format=", "--shortstat", "-M", "--first-parent", "-m", "-1"]
        line = upstream.git("log", *options, str(row["sha"]))
        numbers = [int(number) for number in re.findall(r"\d+", line)]
        ours = [row["files"], row["insertions"], row["deletions"]]
        assert [number for number in ours if number] == [each for each in numbers if each], line
    by_sha = {row["sha"]: row for row in walked.rows}
    assert by_sha[renamed]["files"] == 3  # the picture went, a became new, b changed
    assert by_sha[merge]["insertions"] == 2


async def test_odd_texts_load_as_git_log_shows_them(upstream: Upstream, cache: Path) -> None:
    big = b"big\n\n" + b"0123456789abcde\n" * (1 << 16)
    latin = b"encoding ISO-8859-1\n"
    shas = [
        upstream.commit(big),
        upstream.commit("Grüße\n".encode("latin-1"), headers=latin, author=b" <> 31536000 +1245"),
        upstream.commit("日本\n\nKörper\n".encode()),
        upstream.commit(b"\n\nlate subject\nof two lines\n\nbody\n"),
        upstream.commit(b""),
        upstream.commit("unknown Grüße\n".encode("latin-1")),
    ]
    for number, sha in enumerate(shas):
        upstream.point(f"refs/heads/b{number}", sha)

    by_sha = {row["sha"]: row for row in (await walk(await open_mirror(upstream, cache))).rows}

    for sha in shas[:5]:
        shown = upstream.git("show", "-s", "--encoding=UTF-8", "--format=%an%x00%s%x00%b", sha)
        name, subject, body = shown.split("\x00")
        row = by_sha[sha]
        ours = (row["author_name"], row["subject"], str(row["body"]))
        assert ours == (name, subject, body.rstrip("\n"))
    assert len(str(by_sha[shas[0]]["body"])) == (1 << 20) - 1
    assert by_sha[shas[1]]["author_offset_minutes"] == 765
    assert by_sha[shas[5]]["subject"] == "unknown Gr\ufffd\ufffde"


async def test_commits_that_git_would_not_write_load_too(upstream: Upstream, cache: Path) -> None:
    tree = upstream.tree({}).encode()
    odd = upstream.write(
        b"tree " + tree + b"\nauthor Ada <a@x> 99999999999999999999 +051800\n"
        b"committer Carl <c@x> 0 +0000\n\nwith a \x00 in it\n"
    )
    upstream.point("refs/heads/main", odd)

    [row] = (await walk(await open_mirror(upstream, cache))).rows

    assert (row["authored_at"], row["author_offset_minutes"]) == (None, None)
    assert row["subject"] == "with a \ufffd in it"


async def test_a_commit_object_larger_than_the_limit_is_cut_and_the_next_is_whole(
    upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reading, "OBJECT_BYTES_MAX", 1000)
    large = upstream.commit(b"large\n\n" + b"x" * 300_000)
    small = upstream.commit(b"small\n", parents=[large])
    upstream.point("refs/heads/main", small)

    first, second = (await walk(await open_mirror(upstream, cache))).rows

    assert (first["subject"], first["body_cut"]) == ("large", True)
    assert (second["subject"], second["body_cut"]) == ("small", False)


async def test_first_and_last_commit_are_the_oldest_root_and_the_newest_tip(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    old = upstream.commit(b"an older root\n", seconds=31_536_000)
    upstream.point("refs/heads/old", old)
    mirror = await open_mirror(upstream, cache)

    facts = await _facts.find(mirror)
    row = _facts.row(repository_at(upstream.path), mirror, facts)

    assert (row["first_commit"], row["last_commit"]) == (old, main[2])
    assert (row["default_branch"], row["head"]) == ("main", main[2])
    assert str(row["first_commit_at"]) == "1971-01-01 00:00:00+00:00"
    assert _facts.are_of(facts, mirror)
    upstream.chain(1, on=main[2])
    assert not _facts.are_of(facts, await open_mirror(upstream, cache))
