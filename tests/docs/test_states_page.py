"""docs/states.md and planning/state.py say the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from harvestd.planning.state import MOVES, after_attempt, retry_delay
from harvestd.terms import Outcome, Status

PAGE = Path(__file__).parents[2] / "docs" / "states.md"
TICK = timedelta(seconds=60)


def table(first_column: str) -> list[tuple[str, ...]]:
    """The rows below the heading row whose first cell is ``first_column``, as cells."""
    rows: list[tuple[str, ...]] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first_column:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            rows.append(cells)
    assert rows, f"{PAGE.name} has no table whose first column is {first_column!r}"
    return rows


def test_the_page_explains_every_status_there_is() -> None:
    assert [row[0] for row in table("status")] == [str(status) for status in Status]


def test_the_page_lists_exactly_the_moves_of_the_code() -> None:
    moves = [(str(move.before), str(move.event), str(move.after)) for move in MOVES]

    assert table("before") == moves


def test_the_page_says_what_follows_each_outcome() -> None:
    said = {row[0]: (row[1], row[3]) for row in table("outcome")}

    assert said == {str(outcome): follows(outcome) for outcome in Outcome}


def follows(outcome: Outcome) -> tuple[str, str]:
    """The status after ``outcome``, and in the page's words what becomes of three failures."""
    then = after_attempt(outcome, failures=3, interval=None, tick=TICK, jitter=0.0)
    words = {0: "0", 3: "kept", 4: "one more"}
    return str(then.status), words[then.failures]


def test_the_pages_delays_of_retries_are_those_of_the_code() -> None:
    for failures, seconds in table("failures in a row"):
        delay = retry_delay(int(failures), tick=TICK, jitter=0.0)
        assert delay == timedelta(seconds=int(seconds)), f"after {failures} failures"
