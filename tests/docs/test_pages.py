"""The made pages, and the events, are what the code says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harvestd.observing.events import CONTEXT_FIELDS, EVENTS
from tests.write_pages import DOCS, PAGES

PACKAGE = DOCS.parent / "daemon" / "harvestd"
LEVELS = {
    **{level: level for level in ("debug", "info", "warning", "error")},
    **{method: "error" for method in ("exception", "critical")},
}
MEND = "mend observing/events.py or the call, then `python -m tests.write_pages`"


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"docs/{name} is stale: run `python -m tests.write_pages`"
    )


@dataclass(frozen=True, slots=True)
class Logged:
    """One call that logs: where, at which level (None: chosen at run time), what."""

    where: str
    level: str | None
    name: str
    fields: frozenset[str]


def logged_events() -> Iterator[Logged]:
    """Every `log.<level>("name", ...)`, and every call whose first argument names an event."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            first = node.args[0]
            name = str(first.value) if isinstance(first, ast.Constant) else ast.unparse(first)
            receiver, _, method = ast.unparse(node.func).rpartition(".")
            by_method = method in LEVELS and receiver in ("log", "get_logger()")
            if by_method or name in EVENTS:
                fields = {keyword.arg or "**" for keyword in node.keywords}
                yield Logged(
                    f"{path.relative_to(PACKAGE)}:{node.lineno}",
                    LEVELS[method] if by_method else None,
                    name,
                    frozenset(fields - {"exc_info"} - set(CONTEXT_FIELDS)),
                )


def test_every_event_in_the_code_is_listed_with_its_level() -> None:
    wrong = [
        f"{logged.where}: {logged.name} at {logged.level}"
        for logged in logged_events()
        if logged.name not in EVENTS
        or (logged.level is not None and logged.level not in EVENTS[logged.name].levels)
    ]
    assert not wrong, "\n".join([*wrong, MEND])


def test_every_listed_event_is_logged_with_exactly_its_fields() -> None:
    used: dict[str, set[str]] = {}
    for logged in logged_events():
        used.setdefault(logged.name, set()).update(logged.fields)

    wrong = [
        f"{name}: listed {sorted(event.fields)}, logged {sorted(used.get(name, {'nowhere'}))}"
        for name, event in EVENTS.items()
        if used.get(name) != set(event.fields)
    ]
    assert not wrong, "\n".join([*wrong, MEND])


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
