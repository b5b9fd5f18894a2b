"""How far the demo's runs are, while they go on: bars on a terminal, a line a second elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harvestd.cli.output import count, note
from harvestd.execution.hands import Hand

LINE_SECONDS = 1.0
UNIT = {"git/commit": "commits", "git/file_change": "commits"}
"""What a script counts, where its name says too little."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a tenant is: the script under way, units done of how many, rows of all scripts."""

    tenant_id: str
    script: str
    done: int
    total: int | None
    rows: int

    @property
    def units(self) -> str:
        """``120/834 commits``; empty for a script that does not say."""
        if not self.total:
            return f"{self.done} {UNIT.get(self.script, 'done')}" if self.done else ""
        return f"{self.done}/{self.total} {UNIT.get(self.script, 'done')}"

    @property
    def rows_in_all(self) -> str:
        """The rows of all the tenant's scripts, which is not what the script under way counts."""
        return f"{count(self.rows, 'row')} in all"

    @property
    def line(self) -> str:
        """``acme  git/commit  120/834 commits  121 rows in all``."""
        parts = (self.tenant_id, self.script, self.units, self.rows_in_all)
        return "  ".join(part for part in parts if part)


class Watch:
    """What the hands hold, by tenant; those that ended are remembered with their rows."""

    def __init__(self, hands: Callable[[], Iterable[Hand]]) -> None:
        self._hands = hands
        self._met: dict[str, dict[int, Hand]] = {}

    def look(self) -> dict[str, Seen]:
        """How far each tenant is: the script under way that began last, the rows of all."""
        under_way = {id(hand): hand for hand in self._hands()}
        for key, hand in under_way.items():
            self._met.setdefault(hand.claim.key.tenant_id, {})[key] = hand
        return {
            tenant_id: Seen(
                tenant_id,
                str(last.claim.key.name),
                last.done,
                last.total,
                sum(hand.count_rows() for hand in hands.values()),
            )
            for tenant_id, hands in self._met.items()
            if (last := max(reversed(hands.values()), key=lambda hand: id(hand) in under_way))
        }


@contextmanager
def showing(watch: Watch) -> Iterator[Callable[[], None]]:
    """What is called often, and shows how far everything is; once more when the block ends."""
    if sys.stderr.isatty():
        with _bars(watch) as show:
            yield show
            show()
    else:
        lines = _Lines()
        yield lambda: lines.tell(watch.look(), LINE_SECONDS)
        lines.tell(watch.look(), 0)


class _Lines:
    """A line for each tenant, when there is something new and the last one is old enough."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, Seen]] = {}

    def tell(self, seen: dict[str, Seen], seconds: float) -> None:
        now = time.monotonic()
        for tenant_id, one in seen.items():
            at, before = self._told.get(tenant_id, (now - seconds, None))
            if one != before and now - at >= seconds:
                self._told[tenant_id] = (now, one)
                note(one.line)


@contextmanager
def _bars(watch: Watch) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    progress = Progress(
        TextColumn("{task.fields[tenant]}  {task.fields[script]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[units]}  {task.fields[rows]}"),
        console=Console(stderr=True),
        auto_refresh=False,  # no thread: the loop calls often enough
    )
    bars: dict[str, TaskID] = {}

    def show() -> None:
        for tenant_id, seen in watch.look().items():
            fields: dict[str, Any] = {
                "script": seen.script,
                "units": seen.units,
                "rows": seen.rows_in_all,
            }
            if tenant_id not in bars:
                bars[tenant_id] = progress.add_task("", tenant=tenant_id, **fields)
            progress.update(bars[tenant_id], completed=seen.done, total=seen.total, **fields)
        progress.refresh()

    with progress:
        yield show
