"""File changes: what git itself shows of each commit, in bounded pieces, each commit once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.data_sources.git import _changes, _walk
from plugins.data_sources.git._frontier import Loaded
from plugins.data_sources.git._parse import name_text

from tests.plugins.git.world import Content, Upstream, Walked, open_mirror, walk

MEGABYTE = 1 << 20
SUBMODULE = "5" * 40


async def changes(upstream: Upstream, cache: Path, loaded: Loaded | None = None) -> Walked:
    """The file changes of every commit that is not loaded."""
    return await walk(await open_mirror(upstream, cache), loaded, read=_changes.read)


def of(sha: str, walked: Walked) -> list[tuple[object, ...]]:
    """One commit's changes: letter, path, what it was called before, mode, lines."""
    names = ("change", "path", "renamed_from", "mode", "insertions", "deletions")
    rows = [row for row in walked.rows if row["sha"] == sha]
    assert [row["number"] for row in rows] == [*range(1, len(rows) + 1)]
    return [tuple(row[name] for name in names) for row in rows]


async def test_each_kind_of_change_is_told_with_its_mode_and_its_lines(
    upstream: Upstream, cache: Path
) -> None:
    text = "".join(f"line {number}\n" for number in range(50))
    before: dict[str, Content] = {
        **{"a": text, "binary": "\0\1", "gone": "1\n2\n", "run": "1\n"},
        "link": ("120000", "a"),
    }
    after: dict[str, Content] = {
        **{"b": text + "more\n", "binary": "\0\2", "link": "no link any more\n"},
        "run": ("100755", "1\n"),
        "sub": ("160000", SUBMODULE),
    }
    first = upstream.grow(before)
    second = upstream.grow(after, parents=[first])

    walked = await changes(upstream, cache)

    assert of(first, walked) == [
        ("added", "a", None, "100644", 50, 0),
        ("added", "binary", None, "100644", None, None),
        ("added", "gone", None, "100644", 2, 0),
        ("added", "link", None, "120000", 1, 0),
        ("added", "run", None, "100644", 1, 0),
    ]
    assert of(second, walked) == [
        ("renamed", "b", "a", "100644", 1, 0),
        ("modified", "binary", None, "100644", None, None),
        ("deleted", "gone", None, "100644", 0, 2),
        ("modified", "link", None, "100644", 1, 1),
        ("modified", "run", None, "100755", 0, 0),
        ("added", "sub", None, "160000", 1, 0),
    ]


async def test_a_merge_tells_what_it_brought_to_its_first_parent_however_many_it_has(
    upstream: Upstream, cache: Path
) -> None:
    root = upstream.grow({"a": "1\n"})
    sides = [upstream.grow({"a": "1\n", f"b{n}": "1\n"}, parents=[root]) for n in range(3)]
    whole = {"a": "1\n", "b0": "1\n", "b1": "1\n", "b2": "1\n"}
    octopus = upstream.grow(whole, parents=[root, *sides])
    empty = upstream.grow(whole, parents=[octopus])

    walked = await changes(upstream, cache)

    brought = [("added", f"b{number}", None, "100644", 1, 0) for number in range(3)]
    assert of(octopus, walked) == brought
    assert of(empty, walked) == []
    assert walked.heads == [empty]


async def test_odd_paths_are_written_so_that_their_bytes_can_be_had_again(
    upstream: Upstream, cache: Path
) -> None:
    paths = [
        b"caf\xc3\xa9/na\xc3\xafve \xe6\x97\xa5",
        b"latin\xe9",
        b"tab\there\nand there",
        b'"quoted"',
        b'in the "middle"',
        b"back\\slash",
        b"\xc2\x85",
        b"five" * 100 + b"/" + b"long" * 1000,
    ]
    sha = upstream.grow({path: "x\n" for path in paths})

    walked = await changes(upstream, cache)

    assert {path for _, path, *_ in of(sha, walked)} == {
        "café/naïve 日",
        '"latin\\351"',
        '"tab\\011here\\012and there"',
        '"\\"quoted\\""',
        'in the "middle"',
        "back\\slash",
        '"\\302\\205"',
        paths[-1].decode(),
    }


@given(st.binary())
def test_the_bytes_of_any_name_can_be_had_again_from_its_text(raw: bytes) -> None:
    text = name_text(raw)

    assert bytes_of(text) == raw
    assert "\0" not in text
    text.encode("utf-8")


def bytes_of(text: str) -> bytes:
    """As docs/git.md says it."""
    if not text.startswith('"'):
        return text.encode()
    found, rest = b"", text[1:-1].encode()
    while rest:
        if rest[:1] != b"\\":
            found, rest = found + rest[:1], rest[1:]
        elif rest[1:2] in b'"\\':
            found, rest = found + rest[1:2], rest[2:]
        else:
            found, rest = found + bytes([int(rest[1:4], 8)]), rest[4:]
    return found


async def test_a_commit_whose_parent_the_upstream_lacks_waits_for_it(
    tmp_path: Path, upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(5)
    shallow = Upstream(tmp_path / "shallow.git")
    upstream.git("clone", "-q", "--bare", "--depth=2", f"file://{upstream.path}", str(shallow.path))
    first = await changes(shallow, cache)
    shallow.git("fetch", "-q", "--unshallow", f"file://{upstream.path}", "main")

    mirror = await open_mirror(shallow, cache)
    loaded = Loaded.from_bookmark(first.loaded.as_bookmark(), shallow=mirror.shallow)
    second = await walk(mirror, loaded, read=_changes.read)

    assert set(first.shas) == {main[4]}
    assert first.heads == [main[4]]
    assert of(main[4], first) == [("modified", "number", None, "100644", 1, 1)]
    assert set(second.shas) == set(main)
    assert of(main[3], second) == of(main[4], first)


@pytest.mark.parametrize("chunks", range(1, 8))
async def test_a_walk_that_dies_between_two_pieces_of_a_commit_goes_on_with_that_commit(
    chunks: int, upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_changes, "GROUP_BYTES", 3 * _changes.ROW_BYTES)  # three rows
    one = upstream.grow({"a": "1\n"})
    files = {f"f{number:02}": "2\n" for number in range(20)}
    wide = upstream.grow({"a": "1\n"} | files, parents=[one])
    last = upstream.grow({"a": "1\n", "z": "1\n"} | files, parents=[wide])
    mirror = await open_mirror(upstream, cache)
    whole = await walk(mirror, read=_changes.read)

    dying = await walk(mirror, chunks_max=chunks, read=_changes.read)
    rest = await walk(mirror, dying.loaded, read=_changes.read)

    assert 0 < len(dying.rows) < len(whole.rows)
    done = upstream.git("rev-list", *dying.heads).split() if dying.heads else []
    assert all(of(sha, dying) == of(sha, whole) for sha in done)
    assert 0 < len(of(wide, dying)) < len(of(wide, whole)) or wide in done
    assert {key(row) for row in dying.rows + rest.rows} == {key(row) for row in whole.rows}
    assert rest.heads == whole.heads == [last]


def key(row: dict[str, object]) -> tuple[object, ...]:
    return row["sha"], row["number"], row["path"]


async def test_a_commit_of_a_hundred_thousand_files_comes_in_pieces(
    upstream: Upstream, cache: Path
) -> None:
    files = "".join(f"M 100644 :1 folder/{n % 100}/a file {n}\n" for n in range(100_000))
    stream = "blob\nmark :1\ndata 2\n1\n\ncommit refs/heads/main\ncommitter C <c@x> 1 +0000\n"
    upstream.git("fast-import", "--quiet", stdin=f"{stream}data 2\nc\n{files}\n".encode())
    mirror = await open_mirror(upstream, cache)

    tracemalloc.start()
    try:
        rows, sizes = 0, []
        async for chunk in _walk.walk(mirror, Loaded(), _changes.read):
            rows += len(chunk.rows)
            sizes.append(len(chunk.rows))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert rows == 100_000
    assert max(sizes) < 10_000
    assert peak < 64 * MEGABYTE, f"{peak / MEGABYTE:.1f} MiB"


async def test_ten_thousand_commits_are_walked_in_bounded_memory(
    upstream: Upstream, cache: Path
) -> None:
    stream = "".join(
        f"commit refs/heads/main\ncommitter C <c@x> {number} +0000\ndata 2\nc\n"
        f"M 100644 inline f{number % 50}\ndata {len(str(number))}\n{number}\n\n"
        for number in range(10_000)
    )
    upstream.git("fast-import", "--quiet", stdin=stream.encode())
    mirror = await open_mirror(upstream, cache)

    tracemalloc.start()
    try:
        rows = 0
        async for chunk in _walk.walk(mirror, Loaded(), _changes.read):
            rows += len(chunk.rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert rows == 10_000
    assert peak < 8 * MEGABYTE, f"{peak / MEGABYTE:.1f} MiB"
