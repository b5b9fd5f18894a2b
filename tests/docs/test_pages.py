"""The made pages, and the events, are what the code says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.write_pages import DOCS, PAGES

from harvestd.observing.events import CONTEXT_FIELDS, EVENTS

PACKAGE = DOCS.parent / "daemon" / "harvestd"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
MEND = "mend observing/events.py or the call, then `python -m tests.write_pages`"


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"docs/{name} is stale: run `python -m tests.write_pages`"
    )


def logged_events() -> Iterator[tuple[str, str, ast.Call]]:
    """(where, level, call) of every `log.<level>("name", ...)` of the daemon."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            receiver = ast.unparse(node.func.value).rpartition(".")[2]
            if node.func.attr in LEVELS and receiver in ("log", "_log", "get_logger()"):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.func.attr, node


def name_of(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return str(first.value) if isinstance(first, ast.Constant) else "(not a literal)"


def test_every_event_in_the_code_is_listed_with_its_level_and_fields() -> None:
    wrong: list[str] = []
    for where, level, call in logged_events():
        name = name_of(call)
        if name not in EVENTS:
            wrong.append(f"{where}: {name!r} is no listed event")
            continue
        event = EVENTS[name]
        if ("error" if level in ("exception", "critical") else level) not in event.levels:
            wrong.append(f"{where}: {name} at {level}, listed as {event.level}")
        known = {*event.fields, *CONTEXT_FIELDS, "exc_info", None}
        wrong += [
            f"{where}: {name} has the unlisted field {keyword.arg}"
            for keyword in call.keywords
            if keyword.arg not in known
        ]
    assert not wrong, "\n".join([*wrong, MEND])


def test_every_listed_event_is_logged_somewhere() -> None:
    # As a literal, since a level or a name may be chosen by an expression.
    texts = [
        node.value
        for path in PACKAGE.rglob("*.py")
        if path.name != "events.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    ]
    assert not [name for name in EVENTS if name not in texts], MEND


def test_an_event_is_an_object_and_a_past_participle_with_known_levels() -> None:
    for name, event in EVENTS.items():
        assert name.islower(), name
        assert "_" in name, name
        assert set(event.levels) <= {"debug", "info", "warning", "error"}, name
        assert event.what_to_do.endswith("."), name
        assert len(set(event.fields)) == len(event.fields), name
        assert not set(event.fields) & {*CONTEXT_FIELDS, "event", "level", "timestamp"}, name


def test_no_page_names_a_folder_of_this_machine() -> None:
    for name in PAGES:
        text = (DOCS / name).read_text(encoding="utf-8")
        assert str(Path.home() / "") not in text
        assert str(DOCS.parent) not in text
