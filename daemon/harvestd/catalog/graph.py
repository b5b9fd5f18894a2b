"""Which script needs which: one graph over all data sources of a tenant.

Pure: a graph is a value computed once and shared by all tenants with the same sources.
"""

from __future__ import annotations

import difflib
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

from harvestd.catalog.script import Script
from harvestd.terms import ScriptName

Needs = Mapping[ScriptName, frozenset[ScriptName]]

MEND = "next: correct its dependencies, or give the tenant the data source that is missing"


@dataclass(frozen=True, slots=True)
class Graph:
    """The resolved dependencies of a set of scripts.

    ``order`` has every script that is not in ``blocked``, what it needs before it, names
    sorted among equals.  ``needs`` has all scripts with their direct needs.  ``blocked``
    says why a script can never run as things are; scripts that need a blocked one stay in
    ``order`` and wait.
    """

    order: tuple[ScriptName, ...]
    needs: Needs
    blocked: Mapping[ScriptName, str]


def resolve(scripts: Iterable[Script]) -> Graph:
    """The graph of ``scripts``, which are all that one tenant has."""
    known = {script.name: script for script in scripts}
    directory = _Directory(known)
    needs: dict[ScriptName, frozenset[ScriptName]] = {}
    reasons: defaultdict[ScriptName, list[str]] = defaultdict(list)
    for name in sorted(known):
        found: set[ScriptName] = set()
        for dependency in known[name].dependencies:
            providers = directory.providers(name, dependency)
            if providers is None:
                reasons[name].append(directory.missing(dependency))
            else:
                found |= providers
        needs[name] = frozenset(found)
    lacking = frozenset(reasons)
    for name, cycle in _cycles(needs).items():
        reasons[name].append(f"cycle: {' → '.join(map(str, cycle))}")
    blocked = {
        name: "; ".join([*texts, MEND] if name in lacking else texts)
        for name, texts in sorted(reasons.items())
    }
    usable = {
        name: found.difference(blocked) for name, found in needs.items() if name not in blocked
    }
    return Graph(_order(usable), MappingProxyType(needs), MappingProxyType(blocked))


class _Directory:
    """Who provides what, in the order in which a dependency is looked up."""

    def __init__(self, names: Mapping[ScriptName, Script]) -> None:
        self._names = frozenset(names)
        self._by_source: defaultdict[str, set[ScriptName]] = defaultdict(set)
        self._by_resource: defaultdict[str, set[ScriptName]] = defaultdict(set)
        for name, script in names.items():
            self._by_source[name.source].add(name)
            for resource in script.resources:
                self._by_resource[resource].add(name)

    def providers(self, asking: ScriptName, dependency: str) -> set[ScriptName] | None:
        """All scripts that ``dependency`` means to ``asking``; None when there is none.

        The asking script itself counts only if it is named, or alone in providing the
        resource: then it needs itself, and that is a cycle.
        """
        source, slash, script = dependency.partition("/")
        if slash:
            exact = ScriptName(source, script)
            return {exact} if exact in self._names else None
        offering = self._by_resource.get(dependency, set())
        others = offering - {asking}
        in_own_source = others & self._by_source[asking.source]
        if in_own_source or others:
            return in_own_source or others
        if dependency in self._by_source:
            return self._by_source[dependency] - {asking}
        return {asking} if offering else None

    def missing(self, dependency: str) -> str:
        """The reason for a dependency that nothing provides, with the nearest name there is."""
        if "/" in dependency:
            known = {str(name) for name in self._names}
            what = f"script '{dependency}', which is not among {self._sources_named()}"
        else:
            known = {*self._by_resource, *self._by_source}
            what = f"resource '{dependency}', which no script of {self._sources_named()} provides"
        meant = difflib.get_close_matches(dependency, sorted(known), n=1)
        return f"needs {what}" + (f": did you mean '{meant[0]}'?" if meant else "")

    def _sources_named(self) -> str:
        sources = sorted(source for source, names in self._by_source.items() if names)
        return f"data source{'s' if len(sources) > 1 else ''} {', '.join(sources)}"


def _order(needs: Needs) -> tuple[ScriptName, ...]:
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    order: list[ScriptName] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return tuple(order)


def _cycles(needs: Needs) -> dict[ScriptName, list[ScriptName]]:
    """The shortest circle through each script that is in one, in the direction "needs".

    CycleError names only one circle; where circles share scripts, taking that one out
    would hide the others, so each script is asked for its own.
    """
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        circles = {name: _circle_through(name, needs) for name in needs}
        return {name: circle for name, circle in circles.items() if circle}
    return {}


def _circle_through(start: ScriptName, needs: Needs) -> list[ScriptName]:
    """Breadth first from ``start`` back to it; begins and ends with its smallest name."""
    came_from: dict[ScriptName, ScriptName] = {}
    waiting = deque([start])
    while waiting and start not in came_from:
        here = waiting.popleft()
        for needed in sorted(needs[here]):
            if needed not in came_from:
                came_from[needed] = here
                waiting.append(needed)
    if start not in came_from:
        return []
    circle = [came_from[start]]
    while circle[-1] != start:
        circle.append(came_from[circle[-1]])
    circle.reverse()
    first = circle.index(min(circle))
    return [*circle[first:], *circle[: first + 1]]
