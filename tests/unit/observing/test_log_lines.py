"""A line of the log: one an event, readable, within bounds."""

from __future__ import annotations

import io
import logging
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from harvestd.errors import LeaseLost, SettingsError
from harvestd.observing import logs, metrics
from harvestd.observing.events import EVENTS
from harvestd.observing.logs import get_logger
from harvestd.settings import load_settings
from tests.unit.observing.logged import FORMATS, event_of, logged


def test_our_own_errors_say_what_why_and_what_next() -> None:
    event = event_of(lambda: get_logger().error("cycle_failed", exc_info=LeaseLost("acme/git/x")))

    exceptions = event["exception"]
    assert isinstance(exceptions, list)
    (described,) = exceptions
    assert described["code"] == "lease_lost"
    assert described["what"] == "lost the lease on acme/git/x"
    assert described["next_step"]


def test_groups_causes_and_circles_are_described_within_bounds() -> None:
    first, second = ValueError("a"), SettingsError("b")
    first.__cause__, second.__cause__ = second, first
    group = ExceptionGroup("both", [first, *(OSError(28, "full") for _ in range(50))])

    event = event_of(lambda: get_logger().error("cycle_failed", exc_info=group))

    described = event["exception"]
    assert isinstance(described, list)
    assert len(described) == 8
    assert described[2]["errno"] == "ENOSPC"


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(
    "evil", ["a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "a\u2028b", "\x9b31m", "\u202eabc"]
)
def test_no_text_can_end_a_line_or_drive_a_terminal(log_format: str, evil: str) -> None:
    text = logged(log_format, lambda: get_logger().info("script_logged", message=evil))

    assert text.count("\n") == 1
    assert evil not in text
    assert all(char.isprintable() for char in text[:-1])


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_forged_field_stays_inside_its_value(log_format: str) -> None:
    text = logged(
        log_format, lambda: get_logger().info("script_logged", message='x outcome="completed')
    )

    assert ' outcome="' not in text


@pytest.mark.parametrize("log_format", FORMATS)
def test_any_value_becomes_one_line(log_format: str) -> None:
    class Row:
        def __repr__(self) -> str:
            return "row-value"

    circle: list[object] = []
    circle.append(circle)
    values = [
        *(None, True, 2**80, 1.5, float("nan"), Decimal("1.10"), uuid.UUID(int=7), b"row-value"),
        *(datetime(2026, 1, 1, tzinfo=UTC), Path("/x"), {1: {2, 3}}, "\ud800", Row(), circle),
    ]
    text = logged(log_format, lambda: get_logger().info("script_logged", values=values))

    assert text.count("\n") == 1
    assert "row-value" not in text
    assert "1.10" in text


def test_long_texts_are_cut_and_say_so() -> None:
    event = event_of(lambda: get_logger().info("script_logged", message="x" * 10_000_000))

    assert len(str(event["message"])) < 8300
    assert str(event["message"]).endswith("... (10000000 characters)")


def test_a_json_line_begins_with_time_level_and_event() -> None:
    text = logged("json", lambda: get_logger().info("cycle_finished", runs_due=3, seconds=0.5))

    event = orjson.loads(text)
    assert list(event) == ["timestamp", "level", "event", "runs_due", "seconds"]
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    assert (event["level"], event["event"], event["runs_due"]) == ("info", "cycle_finished", 3)


def test_a_console_line_reads_as_name_and_pairs() -> None:
    text = logged("console", lambda: get_logger().info("cycle_finished", runs_due=3, reason="a b"))

    assert text[8:] == ' info    cycle_finished runs_due=3 reason="a b"\n'


def test_an_unlisted_event_is_logged_and_marked() -> None:
    event = event_of(lambda: get_logger().info("cycle_finisched"))

    assert event["unknown_event"] is True
    assert "unknown_event" not in event_of(lambda: get_logger().info("cycle_finished"))


def test_events_below_the_level_are_not_logged() -> None:
    def write() -> None:
        get_logger().info("cycle_finished")
        get_logger().warning("run_blocked")
        logging.getLogger("x").info("library")

    text = logged("json", write, level="warning")

    assert [orjson.loads(line)["event"] for line in text.splitlines()] == ["run_blocked"]


def test_a_logger_made_before_configure_follows_it() -> None:
    log = get_logger()
    logged("json", lambda: log.info("cycle_finished"))

    assert "cycle_finished" in logged("console", lambda: log.info("cycle_finished"))


def test_libraries_are_heard_from_warnings_on_and_once_after_two_calls() -> None:
    out = io.StringIO()
    logs.configure(load_settings({}, log_format="json"), io.StringIO())
    logs.configure(load_settings({}, log_format="json"), out)
    logging.getLogger("apscheduler.scheduler").info("added job")
    logging.getLogger("apscheduler.scheduler").warning("missed by %s", "5 s")

    (line,) = out.getvalue().splitlines()
    event = orjson.loads(line)
    assert (event["event"], event["logger"]) == ("library_logged", "apscheduler.scheduler")
    assert (event["level"], event["message"]) == ("warning", "missed by 5 s")


def test_a_library_s_wrong_arguments_harm_nobody() -> None:
    out = io.StringIO()
    logs.configure(load_settings({}, log_format="json"), out)
    record = logging.LogRecord("any.library", logging.ERROR, "", 1, "bad %d", ("x",), None)
    logs.LibraryHandler().emit(record)

    assert orjson.loads(out.getvalue())["message"] == "bad %d"


def test_a_full_disk_costs_lines_which_are_counted() -> None:
    before = metrics.LOG_LINES_DROPPED._value.get()
    with Path("/dev/full").open("wb", buffering=0) as device:
        full = io.TextIOWrapper(device, encoding="utf-8")
        logs.configure(load_settings({}, log_format="json"), full)
        get_logger().info("cycle_finished")
        get_logger().info("cycle_finished")

        assert metrics.LOG_LINES_DROPPED._value.get() == before + 2
        full.detach()


def test_lines_go_to_stderr_so_that_stdout_stays_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(load_settings({}, log_format="auto"))
    get_logger().info("cycle_finished", reason="ö")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert orjson.loads(captured.err)["reason"] == "ö"


def test_every_event_that_the_issue_asks_for_is_listed() -> None:
    assert {
        *("daemon_started", "daemon_ready", "daemon_stopping", "daemon_stopped"),
        *("cycle_finished", "cycle_failed", "run_finished", "run_blocked"),
        *("plugin_refused", "script_failed", "replica_dead", "database_unreachable"),
    } <= set(EVENTS)
