"""Walks over real repositories: nothing is missed, whatever happens between two of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from plugins.data_sources.git import _commits, _facts, _mirror, _walk
from plugins.data_sources.git._frontier import Loaded

from tests.plugins.git.world import (
    MONDAY,
    Upstream,
    Walked,
    an_upstream,
    open_mirror,
    repository_at,
    walk,
)


async def test_everything_reachable_from_any_ref_is_walked_parents_first(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    side = upstream.chain(2, on=main[0], name="side")
    upstream.point("refs/pull/1/head", upstream.commit(b"pull\n", parents=[main[1]]))
    upstream.point("refs/replace/" + main[0], upstream.commit(b"replacement\n"))
    upstream.git("tag", "-a", "-m", "tag", "v1", side[1])
    upstream.git("tag", "-a", "-m", "tag of a tag", "v2", "v1")
    upstream.git("tag", "tree", f"{main[0]}^{{tree}}")
    upstream.point("refs/heads/side", None)

    walked = await walk(await open_mirror(upstream, cache))

    assert set(walked.shas) == upstream.reachable()
    assert len(walked.shas) == 7
    seen: set[object] = set()
    for row in walked.rows:
        parents = row["parents"]
        assert isinstance(parents, list)
        assert seen.issuperset(parents)
        seen.add(row["sha"])


async def test_a_commit_that_only_a_detached_head_reaches_is_walked(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(2)
    detached = upstream.commit(b"detached\n", parents=[main[0]])
    upstream.git("update-ref", "--no-deref", "HEAD", detached)

    mirror = await open_mirror(upstream, cache)

    assert detached in (await walk(mirror)).shas
    assert (mirror.head, mirror.default_branch) == (detached, None)


async def test_an_empty_repository_has_no_rows_and_no_error(
    upstream: Upstream, cache: Path
) -> None:
    mirror = await open_mirror(upstream, cache)

    assert await walk(mirror) == Walked([], Loaded())
    assert (mirror.head, mirror.default_branch) == (None, None)
    facts = await _facts.find(mirror)
    row = _facts.row(repository_at(upstream.path), mirror, facts)
    assert row["first_commit"] is row["last_commit_at"] is None


async def test_a_repository_that_became_empty_loses_its_heads_and_fills_again(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    first = await walk(await open_mirror(upstream, cache))
    upstream.point("refs/heads/main", None)

    emptied = await walk(await open_mirror(upstream, cache), first.loaded)
    upstream.point("refs/heads/main", main[1])
    filled = await walk(await open_mirror(upstream, cache), emptied.loaded)

    assert emptied == Walked([], Loaded())
    assert (filled.shas, filled.heads) == (main[:2], [main[1]])


async def test_a_second_walk_gives_only_what_is_new_however_old_its_date(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    first = await walk(await open_mirror(upstream, cache))
    old = upstream.commit(b"of 1971\n", parents=[main[0]], seconds=31_536_000)
    upstream.point("refs/heads/old", old)
    merge = upstream.commit(b"merge\n", parents=[main[2], old], seconds=2_051_222_400)
    upstream.point("refs/heads/main", merge)

    second = await walk(await open_mirror(upstream, cache), first.loaded)
    third = await walk(await open_mirror(upstream, cache), second.loaded)

    assert first.heads == [main[2]]
    assert (second.shas, second.heads) == ([old, merge], [merge])
    assert third == Walked([], second.loaded)


async def test_a_force_push_gives_the_new_history_and_forgets_the_old_head(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    first = await walk(await open_mirror(upstream, cache))
    other = upstream.chain(2, on=main[0], name="main")

    second = await walk(await open_mirror(upstream, cache), first.loaded)
    # Back to a commit below the head that was forgotten: nothing of it is new.
    upstream.point("refs/heads/main", main[1])
    third = await walk(await open_mirror(upstream, cache), second.loaded)

    assert (second.shas, second.heads) == (other, [other[1]])
    assert (third.shas, third.heads) == ([main[1]], [main[1]])


async def test_a_branch_set_back_keeps_a_head_that_covers_it(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(5)
    first = await walk(await open_mirror(upstream, cache))
    upstream.point("refs/heads/main", main[2])

    second = await walk(await open_mirror(upstream, cache), first.loaded)

    assert (second.rows, second.heads) == ([], [main[2]])


async def test_heads_that_the_mirror_lacks_make_the_walk_fuller(
    upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(3)
    tree = upstream.tree({})

    loaded = Loaded(("d" * 40, tree, main[0]))
    walked = await walk(await open_mirror(upstream, cache), loaded)

    assert (walked.shas, walked.heads) == (main[1:], [main[2]])


async def test_a_lost_mirror_costs_a_clone_and_no_row(upstream: Upstream, cache: Path) -> None:
    upstream.chain(3)
    first = await walk(await open_mirror(upstream, cache))
    shutil.rmtree(cache)

    again = await walk(await open_mirror(upstream, cache), first.loaded)

    assert again == Walked([], first.loaded)


async def test_history_that_comes_to_light_below_a_shallow_end_is_walked(
    tmp_path: Path, upstream: Upstream, cache: Path
) -> None:
    main = upstream.chain(5)
    shallow = Upstream(tmp_path / "shallow.git")
    upstream.git("clone", "-q", "--bare", "--depth=2", f"file://{upstream.path}", str(shallow.path))
    mirror = await open_mirror(shallow, cache)
    first = await walk(mirror)
    bookmark = first.loaded.as_bookmark()
    shallow.git("fetch", "-q", "--unshallow", f"file://{upstream.path}", "main")

    mirror = await open_mirror(shallow, cache)
    second = await walk(mirror, Loaded.from_bookmark(bookmark, shallow=mirror.shallow))

    assert first.shas == main[3:]
    assert first.rows[0]["parents"] == [main[2]]
    assert second.shas == main


@pytest.mark.parametrize("seed", range(16))
async def test_walks_that_die_anywhere_together_give_every_commit_once(
    seed: int, upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random history, refs that come, move and go, and a crash after a random chunk."""
    chance = random.Random(seed)
    monkeypatch.setattr(_walk, "CHUNK_COMMITS", 3)
    monkeypatch.setattr(_walk, "PASSING_HEADS", 4 if seed % 3 == 0 else 100)
    has_wild_dates, is_checked = seed % 2 == 1, seed % 4 == 1
    monkeypatch.setattr(_walk, "DOUBTED_MIN", 1 if is_checked else 1000)
    made: list[str] = []
    loaded = Loaded()
    given: list[object] = []
    ever: set[str] = set()
    for _ in range(4):
        made += grow(upstream, chance, made, has_wild_dates=has_wild_dates)
        ever |= upstream.reachable()
        mirror = await open_mirror(upstream, cache)
        dying = await walk(mirror, loaded, chunks_max=chance.randrange(4))
        given += dying.shas
        assert below(upstream, dying.heads) <= set(given)
        loaded = dying.loaded
    finished = await walk(await open_mirror(upstream, cache), loaded)
    given += finished.shas

    assert upstream.reachable() <= set(given) <= ever
    if seed % 3 and (is_checked or not has_wild_dates) and upstream.reachable() == ever:
        assert len(given) == len(set(given))
    assert set(finished.heads) == sinks(upstream)
    assert await walk(mirror, finished.loaded) == Walked([], finished.loaded)


def grow(
    upstream: Upstream, chance: random.Random, made: list[str], *, has_wild_dates: bool
) -> list[str]:
    """Commits on random earlier ones, and refs to some; now and then a ref goes or moves."""
    fresh: list[str] = []
    for _ in range(chance.randrange(1, 9)):
        known = made + fresh
        count = min(len(known), chance.choice([0, 1, 1, 1, 2, 3]))
        seconds = chance.randrange(1, 1 << 31) if has_wild_dates else MONDAY + len(known)
        parents = chance.sample(known, count)
        message = b"%d\n" % chance.getrandbits(60)
        fresh.append(upstream.commit(message, parents=parents, seconds=seconds))
        if chance.random() < 0.6:
            upstream.point(f"refs/heads/b{chance.randrange(5)}", fresh[-1])
        else:
            upstream.point(f"refs/tags/t{fresh[-1]}", fresh[-1])
    if chance.random() < 0.3:
        upstream.point(f"refs/heads/b{chance.randrange(5)}", None)
    return fresh


def below(upstream: Upstream, heads: list[str]) -> set[str]:
    return set(upstream.git("rev-list", *heads).split()) if heads else set()


def sinks(upstream: Upstream) -> set[str]:
    """The commits that are reachable and no parent of a reachable one."""
    lines = [line.split() for line in upstream.git("rev-list", "--all", "--parents").splitlines()]
    mothers = {parent for _, *parents in lines for parent in parents}
    return {sha for sha, *_ in lines} - mothers


async def test_an_upstream_that_did_not_change_gives_not_even_a_chunk(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(3)
    mirror = await open_mirror(upstream, cache)
    first = await walk(mirror)

    assert [chunk async for chunk in _walk.walk(mirror, first.loaded, _commits.read)] == []


async def test_commits_that_git_lists_again_since_clocks_were_wrong_are_left_out(
    upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git follows a head downwards only so far, when all below seems older than the rest."""
    monkeypatch.setattr(_walk, "DOUBTED_MIN", 5)
    main = upstream.chain(20)
    tip = main[-1]
    for number in range(10):
        tip = upstream.commit(b"of 1971\n", parents=[tip], seconds=31_536_000 + number)
    upstream.point("refs/heads/main", tip)
    first = await walk(await open_mirror(upstream, cache))
    late = upstream.commit(b"of 2035\n", parents=[main[-1]], seconds=2_051_222_400)
    upstream.point("refs/heads/late", late)

    second = await walk(await open_mirror(upstream, cache), first.loaded)

    assert (second.shas, second.heads) == ([late], [tip, late])
    listed = upstream.git("rev-list", late, f"^{tip}").split()
    assert set(listed) > {late}  # or this test shows nothing


async def test_a_chunk_ends_early_when_its_commits_are_large(
    upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_commits, "CHUNK_BYTES", 1)
    main = upstream.chain(3)
    mirror = await open_mirror(upstream, cache)

    chunks = [chunk async for chunk in _walk.walk(mirror, Loaded(), _commits.read)]

    assert [(chunk.done, chunk.total, chunk.loaded.heads) for chunk in chunks] == [
        (1, 3, (main[0],)),
        (2, 3, (main[1],)),
        (3, 3, (main[2],)),
        (0, 0, (main[2],)),
    ]


async def test_a_thousand_tips_pass_through_and_stay(upstream: Upstream, cache: Path) -> None:
    [root] = upstream.chain(1)
    stream = [b"feature done\n"]
    for number in range(1000):
        stream.append(
            b"commit refs/pull/%d/head\ncommitter C <c@x> %d +0000\ndata 2\np\n\nfrom %s\n\n"
            % (number, MONDAY + number, root.encode())
        )
    upstream.git("fast-import", "--quiet", stdin=b"".join(stream) + b"done\n")
    first = await walk(await open_mirror(upstream, cache))
    upstream.point("refs/heads/more", upstream.commit(b"more\n", parents=[root]))

    second = await walk(await open_mirror(upstream, cache), first.loaded)

    assert (len(first.shas), len(first.heads)) == (1001, 1000)
    assert (len(second.shas), len(second.heads)) == (1, 1001)


async def test_names_of_64_digits_load_like_any_other(tmp_path: Path, cache: Path) -> None:
    upstream = an_upstream(tmp_path / "long.git", object_format="sha256")
    tree = upstream.tree({"a": b"a\n"})
    sha = upstream.git("commit-tree", "-m", "long", tree)
    upstream.point("refs/heads/main", sha)

    first = await walk(await open_mirror(upstream, cache))
    second = await walk(await open_mirror(upstream, cache), first.loaded)

    assert (first.shas, first.rows[0]["files"]) == ([sha], 1)
    assert second == Walked([], first.loaded)


async def test_a_mirror_that_lost_a_commit_says_that_it_is_damaged(
    upstream: Upstream, cache: Path
) -> None:
    upstream.chain(3)
    mirror = await open_mirror(upstream, cache)
    for stored in (mirror.folder / "objects").glob("??/*"):
        stored.unlink()
    for stored in (mirror.folder / "objects" / "pack").iterdir():
        stored.unlink()

    with pytest.raises(_mirror.Damaged):
        await walk(mirror)
    mirror = await _mirror.remake(mirror, repository_at(upstream.path), cache)
    assert set((await walk(mirror)).shas) == upstream.reachable()
