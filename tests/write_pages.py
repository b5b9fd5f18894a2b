"""The pages of docs/ that are made from the code: `python -m tests.write_pages` rewrites them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from harvestd.observing.events import CONTEXT_FIELDS, EVENTS
from harvestd.observing.metrics import REGISTRY
from harvestd.settings import PREFIX, Settings

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `python -m tests.write_pages`; edit the code instead. -->"


def events_page() -> str:
    """docs/events.md"""
    rows = [
        (
            f"`{name}`",
            event.level.replace(" or ", ", "),
            ", ".join(f"`{field}`" for field in event.fields),
            event.what_to_do,
        )
        for name, event in sorted(EVENTS.items())
    ]
    context = ", ".join(f"`{field}`" for field in CONTEXT_FIELDS)
    return _page(
        "Events",
        "Every line of the log is one event: JSON, or text on a terminal "
        "(`HARVESTD_LOG_FORMAT`). Beside its own fields a line holds `timestamp` (UTC), "
        f"`level`, `event` and, inside a run, {context}. A line about an exception has "
        "`exception`: a list of the exception and its causes, each with `type`, `at` (the places "
        "in the code) and what may be said of it; never local variables, and never the text "
        "of a database error, which quotes rows. A configured value of eight characters or more "
        "and whatever looks like a credential is written `[redacted]`.",
        ("Event", "Level", "Fields", "What to do"),
        rows,
    )


def metrics_page() -> str:
    """docs/metrics.md"""
    rows = []
    for metric in our_metrics():
        described = next(iter(metric.describe()))
        name = described.name + ("_total" if described.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", described.type, labels, described.documentation))
    return _page(
        "Metrics",
        "`GET /metrics` answers in Prometheus' text format, without asking the database. No label "
        "holds a text from outside, a tenant is one for the worst few alone "
        "(`HARVESTD_TENANT_METRICS_MAX`), and scripts beyond the thousandth share "
        '`source="other"`, so a scrape stays small. Beside these there are the usual '
        "`process_*` ones (memory, CPU, open files).",
        ("Metric", "Type", "Labels", "Meaning"),
        rows,
    )


def settings_page() -> str:
    """docs/settings.md"""
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            _default(name, field),
            _bounds(field),
            " ".join((field.description or "").replace("``", "`").split()),
        )
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "harvestd reads its settings from the environment, once, at start. A misspelt "
        f"`{PREFIX}` name is refused with the nearest known one, a value that does not fit "
        "with the name of its variable, both with exit code 2; what Kubernetes injects "
        f"for a Service named `harvestd` (`{PREFIX}SERVICE_*`, `{PREFIX}PORT*`) is ignored.",
        ("Setting", "Default", "Accepts", "Meaning"),
        rows,
    )


PAGES: dict[str, Callable[[], str]] = {
    "events.md": events_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
}


def our_metrics() -> list[MetricWrapperBase]:
    """Every metric of the registry but the process' standard ones, by name."""
    found = [
        metric for metric in REGISTRY._collector_to_names if isinstance(metric, MetricWrapperBase)
    ]
    return sorted(found, key=lambda metric: next(iter(metric.describe())).name)


def _page(
    title: str, introduction: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]
) -> str:
    lines = [f"# {title}", MADE, "", introduction, ""]
    lines += [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(name: str, field: FieldInfo) -> str:
    if name == "data_dir":
        return "`/var/lib/harvestd` as root, else `harvestd` in the XDG data folder"
    if field.default in (None, (), PydanticUndefined):
        return "unset"
    if isinstance(field.default, bool):
        return "`true`" if field.default else "`false`"
    if isinstance(field.default, float):
        return f"`{field.default:g}`"
    return f"`{field.default}`"


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}
    bounds = [
        words.format(f"{value:g}")
        for part in field.metadata
        for sign, words in signs.items()
        if (value := getattr(part, sign, None)) is not None
    ]
    if bounds:
        return ", ".join(bounds)
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    return "`true`, `false`" if field.annotation is bool else "text"


if __name__ == "__main__":
    for file_name, make in PAGES.items():
        (DOCS / file_name).write_text(make(), encoding="utf-8")
        print(f"docs/{file_name}")
