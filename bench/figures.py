"""How figures are printed: the median, and between which two it lay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from bench.scratch import Rate, Server


@dataclass(frozen=True, slots=True)
class Budget:
    """A line of the goal table: the figure of each round, the bound, and the aim."""

    row: str
    what: str
    rounds: Sequence[float]
    must: str = ""
    moonshot: str = ""
    unit: str = ""


def spread(values: Iterable[float]) -> str:
    """``median (min-max)`` with three significant digits."""
    ordered = sorted(values)
    if not ordered:
        return "missing"
    middle = short(median(ordered))
    return middle if len(ordered) == 1 else f"{middle} ({short(ordered[0])}-{short(ordered[-1])})"


def short(value: float) -> str:
    """Three significant digits, whole from 100 on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratios(above: Sequence[Rate], below: Sequence[Rate]) -> list[float]:
    """One ratio a round: both figures of it were taken within seconds of each other."""
    return [a.per_second / b.per_second for a, b in zip(above, below, strict=False)]


def rates_table(unit: str, lines: Sequence[tuple[str, Sequence[Rate]]]) -> str:
    """Rates a second, and CPU microseconds for each, of the client and of PostgreSQL."""

    def of(rates: Sequence[Rate], figure: Callable[[Rate], float]) -> str:
        return spread(map(figure, rates)) if any(figure(rate) for rate in rates) else "-"

    return table(
        ("", f"{unit}/s", "CPU us each: client", "PostgreSQL"),
        [
            (
                name,
                of(rates, lambda rate: rate.per_second),
                of(rates, lambda rate: rate.client_us),
                of(rates, lambda rate: rate.server_us),
            )
            for name, rates in lines
        ],
    )


def budgets_table(budgets: Sequence[Budget]) -> str:
    """Each goal beside what was measured."""
    return table(
        ("row", "figure", "measured", "must", "moonshot"),
        [
            (
                budget.row,
                budget.what,
                f"{spread(budget.rounds)} {budget.unit if budget.rounds else ''}".strip(),
                budget.must,
                budget.moonshot,
            )
            for budget in budgets
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))
    return "\n".join(lines) + "\n"


def machine(server: Server) -> str:
    """When, and on what: a figure without it says nothing."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, PostgreSQL {server.version}, "
        f"load average before {load}"
    )
