"""`harvestd plugins`: what the plugin folders of this machine hold, and what is wrong there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harvestd.catalog.discover import Problem, printable
from harvestd.catalog.script import Script
from harvestd.catalog.snapshot import EMPTY, Catalog, reload
from harvestd.cli import explain
from harvestd.cli.names import unknown
from harvestd.cli.output import count, lasting, note, print_json, print_rows, print_told
from harvestd.cli.reach import command_settings
from harvestd.observing.logs import configure
from harvestd.settings import Settings
from harvestd.terms import ScriptName

HASH_CHARS = 12


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to say, of one data source or of all; the fields are keys of the JSON."""

    scripts: list[Mapping[str, object]]
    problems: list[Mapping[str, object]]
    shadowed: tuple[str, ...]
    blocked: Mapping[str, str]
    """Scripts that can never run as things are here, and why."""


def read_catalog(settings: Settings) -> Catalog:
    """The catalog of this machine; what a plugin prints on the way goes to stderr."""
    configure(settings)
    with contextlib.redirect_stdout(sys.stderr):
        return reload(EMPTY, settings.plugin_dirs)


def show_plugins(source: str | None, *, as_json: bool) -> int:
    """The catalog; the exit code: 1 if something in it cannot be used."""
    catalog = read_catalog(command_settings())
    named = {problem.source for problem in catalog.problems if problem.source}
    if source is not None and source not in {*catalog.sources, *named}:
        raise unknown("data source", source, {*catalog.sources, *named})
    problems = problems_of(catalog, None if source is None else {source})
    graph = catalog.graph_for(frozenset(catalog.sources))
    blocked = {
        str(name): why
        for name, why in graph.blocked.items()
        if source is None or name.source == source
    }
    names = catalog.sources if source is None else {source} & catalog.sources.keys()
    scripts = catalog.scripts_of(names)
    files = _files(catalog)
    shadowed = tuple(
        one
        for one in catalog.notes
        if source is None or one.startswith((f"{source}/", f"schema of {source}:"))
    )
    if as_json:
        print_json(
            Shown(
                [_described(script, files) for script in scripts],
                [describe_problem(problem) for problem in problems],
                shadowed,
                blocked,
            )
        )
    else:
        _print(scripts, files, problems, shadowed, blocked)
    return 1 if problems or blocked else 0


def _print(
    scripts: tuple[Script, ...],
    files: Mapping[int, Path],
    problems: list[Problem],
    shadowed: tuple[str, ...],
    blocked: Mapping[str, str],
) -> None:
    if scripts:
        print_rows(
            ("script", "provides", "needs", "window", "interval"),
            [
                (
                    str(script.name),
                    " ".join(script.resources),
                    " ".join(script.dependencies),
                    _span(script.width) if script.catch_up else "snapshot",
                    _span(script.interval) if script.interval else "each tick",
                )
                for script in scripts
            ],
            folded=("provides", "needs"),
        )
        print()
        folders = {
            (script.name.source, script.content_hash[:HASH_CHARS], files[id(script)].parent)
            for script in scripts
        }
        print_rows(
            ("data source", "content", "folder"),
            [(source, content, printable(str(path))) for source, content, path in sorted(folders)],
            folded=("folder",),
        )
    else:
        note("no plugin folder here holds a script that can be used")
    for name, why in blocked.items():
        print_told(f"{name} can never run here", explain.as_told(why), sys.stderr)
    for line in shadowed:
        note(f"two files of one name: {line}")
    for problem in problems:
        print_told(problem.place, explain.as_told(problem.what), sys.stderr)
    if problems:
        note(f"{count(len(problems), 'problem')} in the plugin folders")


def _span(width: timedelta) -> str:
    return lasting(width.total_seconds())


def _described(script: Script, files: Mapping[int, Path]) -> Mapping[str, object]:
    return {
        "data_source": script.name.source,
        "script": script.name.script,
        "resources": script.resources,
        "dependencies": script.dependencies,
        "window_seconds": script.width.total_seconds(),
        "interval_seconds": _seconds(script.interval),
        "lookback_seconds": script.lookback.total_seconds(),
        "visibility_lag_seconds": script.visibility_lag.total_seconds(),
        "timeout_seconds": _seconds(script.timeout),
        "snapshot": not script.catch_up,
        "content_hash": script.content_hash,
        "file": str(files.get(id(script), "")),
    }


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def problems_of(catalog: Catalog, sources: Collection[str] | None) -> list[Problem]:
    """What cannot be used, of these data sources (None: of all) and of the folders they lie in."""
    return [one for one in catalog.problems if sources is None or one.source in ("", *sources)]


def describe_problem(problem: Problem) -> Mapping[str, object]:
    """A problem as the JSON shows it."""
    told = explain.as_told(problem.what)
    return {
        "data_source": problem.source or None,
        "script": problem.script,
        "file": problem.path,
        "line": problem.line,
        "what": told.what,
        "why": told.why,
        "next": told.next_step,
    }


def file_of(catalog: Catalog, name: ScriptName) -> Path | None:
    """The file that a script was read from."""
    script = catalog.script(name)
    return _files(catalog).get(id(script)) if script is not None else None


def _files(catalog: Catalog) -> dict[int, Path]:
    """The file of each script in use, by the script's identity."""
    return {
        id(outcome): loaded.folder.path / f"{script}.py"
        for loaded in catalog.folders.values()
        for script, outcome in loaded.outcomes.items()
        if isinstance(outcome, Script)
    }
