"""The log holds no secret and no row, whatever it is given."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from harvestd.observing import logs
from harvestd.observing.logs import get_logger
from harvestd.observing.redaction import Redactor, current_redactor
from harvestd.settings import load_settings
from tests.unit.observing.logged import (
    CANARY,
    FORMATS,
    SPELLINGS,
    event_of,
    logged,
    raise_with_the_canary_everywhere,
)


@pytest.fixture
def run_redactor() -> Iterator[None]:
    token = current_redactor.set(Redactor([CANARY]))
    yield
    current_redactor.reset(token)


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
    assert "logged.py" in first["at"][-1]
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


def test_a_number_that_is_a_secret_is_masked() -> None:
    token = current_redactor.set(Redactor(["1234567890"]))
    try:
        event = event_of(lambda: get_logger().info("script_logged", values=[1234567890, 42]))
    finally:
        current_redactor.reset(token)

    assert event["values"] == ["[redacted]", 42]


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


def test_before_configure_tracebacks_have_no_locals(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise_with_the_canary_everywhere()
    except RuntimeError:
        get_logger().exception("cycle_failed")

    text = capsys.readouterr().err
    assert "RuntimeError" in text
    assert not any(spelling in text for spelling in SPELLINGS)
