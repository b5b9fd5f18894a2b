"""Tables, errors and progress as a person reads them."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from harvestd.cli.demo import Collected, tell
from harvestd.cli.live import Watch, showing
from harvestd.cli.output import cell, lasting, plain, print_rows, print_told, say_error, span
from harvestd.cli.serving import name_troubles, print_report
from harvestd.errors import BadExport, HarvestdError
from harvestd.execution.hands import Hand
from harvestd.service.status import RunReported
from harvestd.terms import RunKey

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (2e6, "23 d")],
)
def test_a_duration_is_told_in_its_largest_sensible_unit(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_a_span_shows_minutes_only_when_days_would_say_nothing() -> None:
    assert span(NOON - timedelta(days=90), NOON) == "2025-12-01 – 2026-03-01"
    assert span(NOON - timedelta(hours=1), NOON) == "2026-03-01 11:00 – 2026-03-01 12:00"
    assert span(None, None) == ""


def test_what_could_drive_a_terminal_is_spelled_out() -> None:
    assert plain("a\x1b[2Jb\x07") == r"a\x1b[2Jb\x07"
    assert cell("two\nlines\t\x1b[31m") == r"two lines \x1b[31m"
    assert plain("Größe 数") == "Größe 数"


def test_a_table_shows_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("[bold]name[/bold]", "rows"), [("[red]acme[/red]", 1234567), (None, 1)])
    said = capsys.readouterr().out

    assert "[red]acme[/red]" in said
    assert "[bold]name[/bold]" in said
    assert "1,234,567" in said


def test_the_mistake_of_a_plugin_is_told_with_file_and_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_error(BadExport("no run()", why="it is missing", next_step="add it", path="a.py", line=7))

    assert capsys.readouterr().err == (
        "harvestd: a.py:7: no run()\n  why:  it is missing\n  next: add it\n"
    )


class Screen(io.StringIO):
    """A terminal of 80 columns, as far as a stream says so."""

    def isatty(self) -> bool:
        return True


def shown_on(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """What is printed from here on goes to it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    made = Screen()
    monkeypatch.setattr(sys, "stdout", made)
    return made


def test_the_demos_table_fits_80_columns_without_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown_on(monkeypatch)
    print_report([a_report()])
    *_, row = screen.getvalue().splitlines()

    assert row.split() == [
        *("globex", "git/repository", "COMPLETED", "1", "12,345"),
        *("2025-12-01", "–", "2026-03-01", "12.3"),
    ]


def a_report(**changes: Any) -> RunReported:
    """A run that completed with rows, but for the ``changes``."""
    fields: dict[str, Any] = {
        "tenant_id": "globex",
        "data_source": "git",
        "script": "repository",
        "status": "COMPLETED",
        "blocked_by": None,
        "reason": None,
        "error": None,
        "waits_until": None,
        "windows": 1,
        "rows_written": 12_345,
        "seconds": 12.3,
        "covered_from": NOON - timedelta(days=90),
        "covered_to": NOON,
    }
    return RunReported(**(fields | changes))


def test_a_run_that_found_nothing_new_says_so_instead_of_leaving_its_windows_blank(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report([a_report(windows=None, rows_written=0), a_report(windows=None, seconds=None)])
    *_, idle, held = capsys.readouterr().out.splitlines()

    assert idle.split()[2:5] == ["COMPLETED", "idle", "0"]
    assert "idle" not in held


def test_a_wait_is_told_with_its_date_and_is_nobodys_trouble(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waits = a_report(status="WAITING", reason="429", waits_until=NOON)
    troubles = name_troubles([waits, a_report()])

    assert troubles == 0
    assert capsys.readouterr().err == (
        "globex git/repository WAITING: 429\n  next: nothing: it goes on after 2026-03-01 12:00\n"
    )


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_a_demo_whose_runs_failed_does_not_end_as_if_all_were_well(
    capsys: pytest.CaptureFixture[str], status: str
) -> None:
    report = [
        a_report(tenant_id=tenant, status=status, error="no") for tenant in ("acme", "globex")
    ]
    code = tell(Collected(report, report, 0), "/repo", ["harvestd status"], as_json=False)
    said = capsys.readouterr()

    assert code == (status == "FAILED")
    assert ("second cycle: 0 rows written" in said.out) == (status == "COMPLETED")
    assert ("the second cycle shows nothing" in said.err) == (status == "FAILED")


def test_an_error_is_wrapped_between_words_and_its_command_left_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = shown_on(monkeypatch)
    step = "harvestd config set " + "x" * 80
    print_told("acme", HarvestdError("word " * 30, why="why " * 40, next_step=step))
    *wrapped, last = screen.getvalue().splitlines()

    assert max(map(len, wrapped)) <= 80
    assert (
        " ".join(" ".join(wrapped).split())
        == ("acme: " + "word " * 30 + "why: " + "why " * 40).strip()
    )
    assert last == f"  next: {step}"


@dataclass
class FakeClaim:
    """As much of a claim as the display looks at."""

    key: RunKey


@dataclass
class Attempt:
    """An attempt under way, with numbers that the test moves."""

    key: str
    done: int = 0
    total: int | None = None
    rows: int = 0
    hand: Hand = field(init=False)

    def __post_init__(self) -> None:
        claim = FakeClaim(RunKey(*self.key.split("/")))
        self.hand = Hand(cast(Any, claim), cast(Any, None), count_rows=lambda: self.rows)

    def move(self, done: int, total: int, rows: int) -> None:
        self.hand.report_progress(done, total)
        self.rows = rows


def test_progress_counts_the_rows_of_runs_that_ended_too() -> None:
    first, second = Attempt("acme/git/repository"), Attempt("acme/git/commit")
    under_way = [first.hand]
    watch = Watch(lambda: under_way)
    watch.look()
    first.move(1, 1, rows=1)  # it ends between two looks
    under_way[:] = [second.hand]
    second.move(120, 834, rows=120)

    assert watch.look()["acme"].line == "acme  git/commit  120/834 commits  121 rows in all"


def test_without_a_terminal_there_is_a_line_a_second_at_most_and_a_last_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempt = Attempt("acme/git/commit")
    with showing(Watch(lambda: [attempt.hand])) as show:
        show()
        for done in range(100):
            attempt.move(done, 100, rows=done)
            show()
        attempt.move(100, 100, rows=100)
    lines = capsys.readouterr().err.splitlines()

    assert lines[0] == "acme  git/commit  0 rows in all"
    assert lines[-1] == "acme  git/commit  100/100 commits  100 rows in all"
    assert len(lines) <= 3
