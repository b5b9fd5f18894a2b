"""Which script needs which, and what is said of those that never can run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harvestd.catalog.graph import MEND, Graph, resolve
from harvestd.catalog.script import Script
from harvestd.terms import ScriptName


async def _run(
    env: Mapping[str, str], db: Any, tenant_id: str, start: datetime, end: datetime
) -> None:
    raise NotImplementedError


def named(text: str) -> ScriptName:
    source, _, script = text.partition("/")
    return ScriptName(source, script)


def script(name: str, *needs: str, provides: tuple[str, ...] = ()) -> Script:
    return Script(named(name), _run, "hash", resources=provides, dependencies=needs)


def needs_of(graph: Graph, name: str) -> set[str]:
    return {str(needed) for needed in graph.needs[named(name)]}


def order_of(graph: Graph) -> list[str]:
    return [str(name) for name in graph.order]


def blocked_of(graph: Graph) -> dict[str, str]:
    return {str(name): reason for name, reason in graph.blocked.items()}


def test_what_is_needed_comes_first_and_names_decide_among_equals() -> None:
    graph = resolve([script("b/y", "b/z"), script("b/z"), script("a/x"), script("a/w", "b/y")])

    assert order_of(graph) == ["a/x", "b/z", "b/y", "a/w"]
    assert not graph.blocked


def test_names_decide_among_equals_at_every_level() -> None:
    graph = resolve([script("s/a"), script("s/b"), script("s/c", "b"), script("s/d", "a")])

    assert order_of(graph) == ["s/a", "s/b", "s/c", "s/d"]


def test_a_script_provides_its_own_name_unless_it_says_otherwise() -> None:
    graph = resolve(
        [script("a/x", "y", "ghost"), script("a/y"), script("a/z", provides=("ghost",))]
    )

    assert needs_of(graph, "a/x") == {"a/y", "a/z"}


def test_an_exact_name_wins_over_everything() -> None:
    graph = resolve([script("a/x", "b/item"), script("a/item"), script("b/item"), script("b/more")])

    assert needs_of(graph, "a/x") == {"b/item"}


def test_a_resource_of_the_own_data_source_wins_over_other_data_sources() -> None:
    graph = resolve([script("a/x", "item"), script("a/item"), script("b/item")])

    assert needs_of(graph, "a/x") == {"a/item"}


def test_a_resource_of_another_data_source_is_found() -> None:
    graph = resolve([script("a/x", "item"), script("b/item")])

    assert needs_of(graph, "a/x") == {"b/item"}


def test_a_resource_wins_over_a_data_source_of_that_name() -> None:
    graph = resolve([script("a/x", "git"), script("b/git"), script("git/commit")])

    assert needs_of(graph, "a/x") == {"b/git"}


def test_a_data_source_means_all_its_scripts() -> None:
    graph = resolve([script("a/x", "git"), script("git/commit"), script("git/tag")])

    assert needs_of(graph, "a/x") == {"git/commit", "git/tag"}


def test_the_own_data_source_means_all_its_scripts_but_oneself() -> None:
    graph = resolve([script("git/all", "git"), script("git/commit")])

    assert needs_of(graph, "git/all") == {"git/commit"}
    assert not graph.blocked


def test_if_two_scripts_provide_a_resource_both_are_needed() -> None:
    graph = resolve(
        [
            script("a/x", "user"),
            script("b/members", provides=("user",)),
            script("c/people", provides=("user",)),
        ]
    )

    assert needs_of(graph, "a/x") == {"b/members", "c/people"}


def test_a_script_that_provides_what_it_needs_means_the_other_providers() -> None:
    graph = resolve([script("jira/repository", "repository"), script("git/repository")])

    assert needs_of(graph, "jira/repository") == {"git/repository"}
    assert not graph.blocked


def test_a_missing_provider_is_named_with_the_data_sources_searched() -> None:
    graph = resolve([script("a/x", "nothing"), script("b/y"), script("b/z", "a/x")])

    assert blocked_of(graph) == {
        "a/x": f"needs resource 'nothing', which no script of data sources a, b provides; {MEND}"
    }
    assert order_of(graph) == ["b/y", "b/z"]
    assert needs_of(graph, "b/z") == {"a/x"}


def test_a_missing_script_is_named() -> None:
    graph = resolve([script("a/x", "b/y", "z")])

    assert blocked_of(graph) == {
        "a/x": "needs script 'b/y', which is not among data source a; "
        f"needs resource 'z', which no script of data source a provides; {MEND}"
    }


def test_a_dependency_that_is_misspelt_is_answered_with_the_nearest() -> None:
    graph = resolve(
        [
            script("desk/ticket"),
            script("desk/x", "tickets", "desk/tickets"),
            script("desk/y", "dsk"),
        ]
    )

    assert blocked_of(graph) == {
        "desk/x": "needs resource 'tickets', which no script of data source desk provides: "
        "did you mean 'ticket'?; needs script 'desk/tickets', which is not among data source "
        f"desk: did you mean 'desk/ticket'?; {MEND}",
        "desk/y": "needs resource 'dsk', which no script of data source desk provides: "
        f"did you mean 'desk'?; {MEND}",
    }


def test_a_cycle_is_spelled_out_as_a_path_in_the_direction_of_needs() -> None:
    graph = resolve([script("git/c", "a"), script("git/a", "b"), script("git/b", "c")])

    path = "cycle: git/a → git/b → git/c → git/a"
    assert blocked_of(graph) == {"git/a": path, "git/b": path, "git/c": path}
    assert graph.order == ()


def test_a_cycle_across_two_data_sources_is_found() -> None:
    graph = resolve([script("git/commit", "jira/issue"), script("jira/issue", "commit")])

    path = "cycle: git/commit → jira/issue → git/commit"
    assert blocked_of(graph) == {"git/commit": path, "jira/issue": path}


def test_a_script_that_needs_itself_is_a_cycle() -> None:
    graph = resolve([script("git/a", "git/a"), script("git/b", "b"), script("git/c")])

    assert blocked_of(graph) == {
        "git/a": "cycle: git/a → git/a",
        "git/b": "cycle: git/b → git/b",
    }
    assert order_of(graph) == ["git/c"]


def test_independent_cycles_are_each_named_and_the_rest_runs() -> None:
    graph = resolve(
        [
            script("s/a", "b"),
            script("s/b", "a"),
            script("s/c", "d"),
            script("s/d", "c"),
            script("s/free"),
            script("s/waits", "a", "free"),
        ]
    )

    assert blocked_of(graph) == {
        "s/a": "cycle: s/a → s/b → s/a",
        "s/b": "cycle: s/a → s/b → s/a",
        "s/c": "cycle: s/c → s/d → s/c",
        "s/d": "cycle: s/c → s/d → s/c",
    }
    assert order_of(graph) == ["s/free", "s/waits"]
    assert needs_of(graph, "s/waits") == {"s/a", "s/free"}


def test_two_cycles_through_one_script_are_both_found() -> None:
    graph = resolve([script("s/a", "b"), script("s/b", "a", "c"), script("s/c", "b")])

    assert blocked_of(graph)["s/a"] == "cycle: s/a → s/b → s/a"
    assert blocked_of(graph)["s/c"] == "cycle: s/b → s/c → s/b"
    assert "s/b" in blocked_of(graph)


def test_nothing_has_an_empty_graph() -> None:
    assert resolve([]) == Graph((), {}, {})


@st.composite
def needs_by_script(draw: st.DrawFn, *, acyclic: bool) -> list[Script]:
    """Scripts of three data sources in a shuffled order; the needs point anywhere, or backwards."""
    names = [f"{source}/s{n}" for n in range(draw(st.integers(1, 5))) for source in "abc"]
    names = draw(st.permutations(names))
    scripts = []
    for place, name in enumerate(names):
        offered = names[:place] if acyclic else names
        needs = draw(st.lists(st.sampled_from(offered), max_size=4)) if offered else []
        scripts.append(script(name, *needs))
    return draw(st.permutations(scripts))


@settings(deadline=None)  # a busy machine is no fault of a graph
@given(needs_by_script(acyclic=True))
def test_order_respects_needs_in_any_graph_without_a_cycle(scripts: list[Script]) -> None:
    graph = resolve(scripts)

    assert not graph.blocked
    assert sorted(graph.order) == sorted(s.name for s in scripts)
    place = {name: index for index, name in enumerate(graph.order)}
    assert all(place[need] < place[name] for name in graph.order for need in graph.needs[name])


@settings(deadline=None)  # a busy machine is no fault of a graph
@given(needs_by_script(acyclic=False), st.randoms(use_true_random=False))
def test_exactly_the_scripts_that_reach_themselves_are_blocked(
    scripts: list[Script], chance: Any
) -> None:
    graph = resolve(scripts)

    reached = {name: set(needs) for name, needs in graph.needs.items()}
    for _ in scripts:
        reached = {
            name: needs.union(*(reached[need] for need in needs)) for name, needs in reached.items()
        }
    assert set(graph.blocked) == {name for name, needs in reached.items() if name in needs}
    assert sorted([*graph.order, *graph.blocked]) == sorted(s.name for s in scripts)
    chance.shuffle(scripts)
    assert resolve(scripts) == graph
