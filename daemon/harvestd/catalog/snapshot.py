"""All that could run, as one value; an edit makes a new value, and a mistake changes nothing."""

from __future__ import annotations

import hashlib
import importlib
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from harvestd.catalog.discover import (
    SCHEMA_FILE,
    Folder,
    Found,
    Problem,
    Source,
    bundled_plugin_dir,
    find_folders,
    printable,
)
from harvestd.catalog.graph import Graph, resolve
from harvestd.catalog.modules import Failure, forget_all_but, load_script
from harvestd.catalog.script import Script
from harvestd.terms import NAME, ScriptName

# Tenants share a graph when they have the same data sources; beyond this many different
# sets the memory would cost more than the milliseconds.
GRAPHS_MAX = 4_096

_RELOADING = threading.Lock()  # sys.modules is one for the process


@dataclass(frozen=True, slots=True)
class LoadedFolder:
    """A folder and what became of those of its scripts that are used."""

    folder: Folder
    outcomes: Mapping[str, Script | Failure]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The data sources, the problems of their folders, and notes (which of two is used).

    ``version`` changes with any of them.  ``folders`` is what the next reload builds on.
    """

    sources: Mapping[str, Source] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    version: str = ""
    notes: tuple[str, ...] = ()
    folders: Mapping[str, LoadedFolder] = field(default_factory=dict, repr=False)
    _graphs: dict[frozenset[str], Graph] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def script(self, name: ScriptName) -> Script | None:
        """The script of that name, or None when this replica has no usable one."""
        source = self.sources.get(name.source)
        return source.scripts.get(name.script) if source else None

    def why_missing(self, name: ScriptName) -> str:
        """Why there is no usable script of that name."""
        for problem in self.problems:
            if problem.source == name.source and problem.script in (name.script, None):
                return str(problem)
        return (
            f"no plugin folder of {socket.gethostname()} has {name}; why: it was removed, or not "
            "deployed there; next: bring it back, or delete its rows from data_source_run (which "
            "forgets its progress, and nothing that was loaded)"
        )

    def scripts_of(self, sources: Iterable[str]) -> tuple[Script, ...]:
        """All scripts of these data sources by name; unknown sources have none."""
        known = sorted(set(sources) & self.sources.keys())
        return tuple(
            script for source in known for _, script in sorted(self.sources[source].scripts.items())
        )

    def graph_for(self, sources: frozenset[str]) -> Graph:
        """The graph of a tenant with these data sources, computed once for all such tenants."""
        graph = self._graphs.get(sources)
        if graph is None:
            graph = resolve(self.scripts_of(sources))
            if len(self._graphs) >= GRAPHS_MAX:
                self._graphs.clear()
            self._graphs[sources] = graph
        return graph


EMPTY = Catalog()


def reload(
    previous: Catalog, plugin_dirs: Sequence[Path], *, bundled: Path | None = None
) -> Catalog:
    """Read every plugin folder anew; ``bundled`` is the folder that comes along, by default.

    What did not change is kept, and ``previous`` itself is returned when nothing did.  A
    broken script keeps its last good version and is listed.  Blocking I/O and plugin code:
    call it in a thread.  Raises nothing on account of a plugin.
    """
    with _RELOADING:
        found = find_folders(plugin_dirs, bundled or bundled_plugin_dir())
        building = _Building(previous, found)
        for name in sorted(found.folders):
            building.add(name, found.folders[name])
        catalog = building.catalog()
        if catalog.version == previous.version:
            catalog = previous
        forget_all_but(loaded.folder for loaded in catalog.folders.values())
        return catalog


class _Building:
    """A catalog in the making."""

    def __init__(self, previous: Catalog, found: Found) -> None:
        self.previous = previous
        self.problems = found.problems
        self.notes = found.notes
        self.sources: dict[str, Source] = {}
        self.folders: dict[str, LoadedFolder] = {}

    def add(self, name: str, folders: Sequence[Folder]) -> None:
        """Merge the folders of one data source: of two files the first in order is used."""
        used: dict[str, list[str]] = {folder.package: [] for folder in folders}
        scripts: dict[str, Script] = {}
        winners: dict[str, Folder] = {}
        before = self.previous.sources.get(name)
        for folder in folders:
            for script in filter(NAME.fullmatch, folder.scripts):
                if script in winners:
                    self._note(f"{name}/{script}", winners[script], folder, f"{script}.py")
                else:
                    winners[script] = folder
                    used[folder.package].append(script)
        for folder in folders:
            self._report(folder, used[folder.package])
            loaded = self._load(folder, used[folder.package])
            self.folders[folder.package] = loaded
            for script, outcome in loaded.outcomes.items():
                if isinstance(outcome, Script):
                    scripts[script] = outcome
            if before and "" in folder.refused:
                winners = dict.fromkeys(before.scripts, folder) | winners
        for script in winners.keys() - scripts.keys():
            if before and script in before.scripts:
                scripts[script] = before.scripts[script]
        self.sources[name] = Source(
            name,
            folders[0].path,
            _combined([folder.content_hash for folder in folders]),
            MappingProxyType(dict(sorted(scripts.items()))),
            self._schema(name, folders),
            frozenset().union(*(script.plain_keys for script in scripts.values())),
        )

    def _report(self, folder: Folder, used: Sequence[str]) -> None:
        """List what was refused in a folder, unless another folder's file is used anyway."""
        for problem in folder.refused.values():
            if problem.script is None or problem.script in used:
                self.problems.append(problem)

    def _load(self, folder: Folder, used: Sequence[str]) -> LoadedFolder:
        """Import the used scripts of a folder, or take them over if it did not change."""
        known = self.previous.folders.get(folder.package)
        if known is not None:
            folder = known.folder
        outcomes: dict[str, Script | Failure] = {}
        for script in used:
            if f"{script}.py" in folder.refused:
                continue
            outcome = known.outcomes.get(script) if known else None
            if isinstance(outcome, Failure) and outcome.outside:
                importlib.invalidate_caches()  # a package may have been installed meanwhile
                outcome = None
            outcomes[script] = outcome or load_script(folder, script)
        self.problems += [o.problem for o in outcomes.values() if isinstance(o, Failure)]
        return LoadedFolder(folder, MappingProxyType(outcomes))

    def _schema(self, name: str, folders: Sequence[Folder]) -> str | None:
        """The text of the first schema.sql, or the last good one if it is broken."""
        having = [f for f in folders if SCHEMA_FILE in f.files or SCHEMA_FILE in f.refused]
        before = self.previous.sources.get(name)
        last_good = before.schema_sql if before else None
        for later in having[1:]:
            self._note(f"schema of {name}", having[0], later, SCHEMA_FILE)
        if not having:
            return last_good if any("" in folder.refused for folder in folders) else None
        if SCHEMA_FILE in having[0].refused:
            return last_good
        content = having[0].files[SCHEMA_FILE]
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            path = str(having[0].path / SCHEMA_FILE)
            what = f"it is not UTF-8 text; why: {error.reason}; next: save it as UTF-8"
            self.problems.append(Problem(name, None, path, line, what))
            return last_good

    def _note(self, what: str, first: Folder, later: Folder, file: str) -> None:
        used, unused = (printable(str(folder.path / file)) for folder in (first, later))
        self.notes.append(f"{what}: {used} is used, not {unused}")

    def catalog(self) -> Catalog:
        """The finished value; folders that only last good versions come from stay in it."""
        in_use = {
            id(script) for source in self.sources.values() for script in source.scripts.values()
        }
        for package, loaded in self.previous.folders.items():
            if any(id(outcome) in in_use for outcome in loaded.outcomes.values()):
                self.folders.setdefault(package, loaded)
        problems = tuple(dict.fromkeys(self.problems))
        version = _version(self.sources, problems, self.notes)
        return Catalog(
            MappingProxyType(self.sources),
            problems,
            version,
            tuple(self.notes),
            MappingProxyType(self.folders),
        )


def _combined(hashes: Sequence[str]) -> str:
    """One content hash for a data source: its folder's own if there is only one."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _version(
    sources: Mapping[str, Source], problems: Sequence[Problem], notes: Sequence[str]
) -> str:
    digest = hashlib.sha256()
    for source in sources.values():
        parts = [source.name, str(source.folder), source.content_hash, source.schema_sql]
        parts += [f"{script.name} {script.content_hash}" for script in source.scripts.values()]
        digest.update(repr(parts).encode())
    digest.update(repr([*problems, *notes]).encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]
