"""The bookmark's heads: what they promise holds after every commit, and they are few."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from plugins.data_sources.git._frontier import Frontier, Loaded, digest_of

Graph = list[tuple[str, list[str]]]

A, B, C = "a" * 40, "b" * 40, "c" * 64


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Commits, parents first, each with up to three parents among the earlier ones."""
    count = draw(st.integers(1, 25))
    graph: Graph = []
    for number in range(count):
        earlier = [sha for sha, _ in graph]
        parents: list[str] = []
        if earlier:
            parents = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3))
        graph.append((f"{number:040x}", parents))
    return graph


def below(graph: Graph, heads: Iterable[str]) -> set[str]:
    """Everything reachable from ``heads``, themselves included."""
    parents = dict(graph)
    found: set[str] = set()
    open_ends = [*heads]
    while open_ends:
        sha = open_ends.pop()
        if sha not in found:
            found.add(sha)
            open_ends += parents[sha]
    return found


@given(graphs(), st.data())
def test_heads_vouch_for_exactly_what_is_loaded_wherever_the_walk_stops(
    graph: Graph, choose: st.DataObject
) -> None:
    stop = choose.draw(st.integers(0, len(graph)))
    frontier = Frontier()
    for sha, parents in graph[:stop]:
        frontier.add(sha, parents)

    assert below(graph, frontier.heads()) == {sha for sha, _ in graph[:stop]}
    mothers = {parent for _, parents in graph[:stop] for parent in parents}
    assert not mothers & set(frontier.heads())


@given(graphs(), st.data())
def test_a_commit_told_twice_vouches_for_nothing_more(graph: Graph, choose: st.DataObject) -> None:
    frontier = Frontier()
    for sha, parents in graph:
        frontier.add(sha, parents)
    again, parents = choose.draw(st.sampled_from(graph))
    frontier.add(again, parents)

    assert below(graph, frontier.heads()) == {sha for sha, _ in graph}


def test_the_newest_heads_stay_when_there_are_too_many() -> None:
    frontier = Frontier()
    for number in range(100):
        frontier.add(f"{number:040x}", [])

    assert frontier.heads(3) == tuple(f"{number:040x}" for number in (97, 98, 99))


def test_a_bookmark_comes_back_as_what_it_was_made_of() -> None:
    loaded = Loaded((A, C), digest_of([A]), "shallow")
    bookmark = json.loads(json.dumps(loaded.as_bookmark()))

    assert Loaded.from_bookmark(bookmark, shallow="shallow") == loaded


def test_a_history_cut_off_elsewhere_is_walked_from_its_beginning() -> None:
    bookmark = Loaded((A,), digest_of([A]), "").as_bookmark()

    assert Loaded.from_bookmark(bookmark, shallow="x") == Loaded(shallow="x")


def test_a_bookmark_of_another_shape_vouches_for_nothing() -> None:
    whole = Loaded((A,), digest_of([A])).as_bookmark()

    shapes: list[object] = [None, [], "x", {"heads": [A]}]
    for strange in [*shapes, whole | {"heads": "x"}, whole | {"tips": None}]:
        assert Loaded.from_bookmark(strange, shallow="") == Loaded()
    for name in ("--all", 7, B[:39], B.upper()):
        assert Loaded.from_bookmark(whole | {"heads": [A, name]}, shallow="") == Loaded()


def test_tips_are_the_same_in_any_order_and_none_have_no_name() -> None:
    assert digest_of([A, B]) == digest_of([B, A]) != digest_of([A])
    assert digest_of([]) == ""
