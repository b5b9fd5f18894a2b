"""The log: no secret, no row, one line an event, whatever it is given."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import asyncpg
import orjson
import pytest

from harvestd.errors import LeaseLost, SettingsError
from harvestd.observing import lines, logs, metrics
from harvestd.observing.events import EVENTS
from harvestd.observing.logs import get_logger
from harvestd.observing.redaction import Redactor, current_redactor
from harvestd.settings import load_settings

CANARY = "canary/5f0c+9d1e=7"
SPELLINGS = (
    CANARY,
    quote(CANARY, safe=""),
    quote(CANARY),
    base64.b64encode(CANARY.encode()).decode(),
    json.dumps({"token": CANARY})[11:-2],
)
FORMATS = ("json", "console")


@pytest.fixture(autouse=True)
def _log_of_the_suite() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, logs.LibraryHandler)]:
        root.removeHandler(handler)
    logs._install(logging.WARNING, lines.to_console(colors=False), lines.Lines(None))


@pytest.fixture
def run_redactor() -> Iterator[None]:
    token = current_redactor.set(Redactor([CANARY]))
    yield
    current_redactor.reset(token)


def logged(log_format: str, write: Callable[[], object], level: str = "debug") -> str:
    out = io.StringIO()
    logs.configure(load_settings({}, log_format=log_format, log_level=level), out)
    write()
    return out.getvalue()


def event_of(write: Callable[[], object]) -> dict[str, object]:
    text = logged("json", write)
    assert text.count("\n") == 1
    event = orjson.loads(text)
    assert isinstance(event, dict)
    return event


def raise_with_the_canary_everywhere() -> None:
    canary_in_locals = {"token": CANARY}
    try:
        raise ValueError(f"bad token {canary_in_locals['token']}")
    except ValueError as error:
        raise RuntimeError(f"GET https://x/?key={quote(CANARY, safe='')}") from error


@pytest.mark.usefixtures("run_redactor")
@pytest.mark.parametrize("log_format", FORMATS)
def test_a_planted_secret_is_in_no_line(log_format: str) -> None:
    def write() -> None:
        log = get_logger()
        try:
            raise_with_the_canary_everywhere()
        except RuntimeError:
            log.exception("script_failed", reason=f"upstream said {CANARY}")
        for spelling in SPELLINGS:
            log.info("script_logged", message=f"<{spelling}>", values={"deep": [{"x": spelling}]})
            log.info("script_logged", **{f"key {spelling}": 1}, values=(spelling.encode(),))
            log.info(f"event {spelling}")
        log.info("script_logged", message=f"https://ann:{CANARY}@host/x")
        log.info("script_logged", error=ValueError(CANARY), values={CANARY: Path(CANARY)})
        logging.getLogger("any.library").warning("sent %s", CANARY)
        logging.getLogger("asyncio").error("done\nfuture: <Task exception=X(%r)>", CANARY)

    text = logged(log_format, write)

    assert text.count("script_failed") == 1
    assert text.count("script_logged") == 2 * len(SPELLINGS) + 2
    assert text.count("library_logged") == 2
    for spelling in SPELLINGS:
        assert spelling not in text


@pytest.mark.parametrize("log_format", FORMATS)
def test_outside_a_run_a_foreign_exception_keeps_its_text_to_itself(log_format: str) -> None:
    def write() -> None:
        try:
            raise_with_the_canary_everywhere()
        except RuntimeError:
            get_logger().exception("cycle_failed", code="bug")

    text = logged(log_format, write)

    assert "RuntimeError" in text
    assert "ValueError" in text
    assert "raise_with_the_canary_everywhere" in text
    assert not any(spelling in text for spelling in SPELLINGS)
    assert "bad token" not in text


@pytest.mark.usefixtures("run_redactor")
def test_the_text_of_a_script_s_exception_is_given_cleaned() -> None:
    def write() -> None:
        try:
            raise_with_the_canary_everywhere()
        except RuntimeError:
            get_logger().warning("script_failed", exc_info=True)

    exceptions = event_of(write)["exception"]

    assert isinstance(exceptions, list)
    first, cause = exceptions
    assert first["text"] == "GET https://x/?key=[redacted]"
    assert (cause["type"], cause["text"]) == ("ValueError", "bad token [redacted]")
    assert Path(__file__).name in first["at"][-1]
    assert first["at"][-1].endswith("raise_with_the_canary_everywhere")


@pytest.mark.usefixtures("run_redactor")
def test_a_database_error_gives_codes_and_names_and_never_its_row() -> None:
    error = asyncpg.NotNullViolationError.new(
        {
            "C": "23502",
            "M": "null value in column violates: row-value-1",
            "D": "Failing row contains (row-value-2)",
            "t": "issue",
            "c": "title",
        }
    )
    event = event_of(lambda: get_logger().error("cycle_failed", exc_info=error))
    value = event_of(lambda: get_logger().error("cycle_failed", reason=error))

    assert "row-value" not in str(event) + str(value)
    assert event["exception"] == [
        {
            "type": "asyncpg.exceptions.NotNullViolationError",
            "sqlstate": "23502",
            "table_name": "issue",
            "column_name": "title",
            "at": [],
        }
    ]
    assert "23502" in str(value["reason"])


@pytest.mark.usefixtures("run_redactor")
def test_the_driver_s_own_errors_are_silent_even_as_a_base_class() -> None:
    class OfTheScript(asyncpg.InterfaceError):
        pass

    event = event_of(lambda: get_logger().error("cycle_failed", exc_info=OfTheScript("row-value")))

    assert "row-value" not in str(event)


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


def test_a_number_that_is_a_secret_is_masked() -> None:
    token = current_redactor.set(Redactor(["1234567890"]))
    try:
        event = event_of(lambda: get_logger().info("script_logged", values=[1234567890, 42]))
    finally:
        current_redactor.reset(token)

    assert event["values"] == ["[redacted]", 42]


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


async def test_a_task_that_failed_unseen_does_not_print_its_exception() -> None:
    out = io.StringIO()
    logs.configure(load_settings({}, log_format="json"), out)
    loop = asyncio.get_running_loop()

    async def fail() -> None:
        raise RuntimeError(CANARY)

    task = loop.create_task(fail())
    await asyncio.wait([task])
    loop.default_exception_handler(
        {
            "message": "Task exception was never retrieved",
            "exception": task.exception(),
            "future": task,
        }
    )

    assert "never retrieved" in out.getvalue()
    assert "RuntimeError" in out.getvalue()
    assert CANARY not in out.getvalue()


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


def test_before_configure_tracebacks_have_no_locals(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise_with_the_canary_everywhere()
    except RuntimeError:
        get_logger().exception("cycle_failed")

    text = capsys.readouterr().err
    assert "RuntimeError" in text
    assert not any(spelling in text for spelling in SPELLINGS)


def test_every_event_that_the_issue_asks_for_is_listed() -> None:
    assert {
        *("daemon_started", "daemon_ready", "daemon_stopping", "daemon_stopped"),
        *("cycle_finished", "cycle_failed", "run_finished", "run_blocked"),
        *("plugin_refused", "script_failed", "replica_dead", "database_unreachable"),
    } <= set(EVENTS)
