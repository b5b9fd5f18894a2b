"""One log for the daemon, its libraries and scripts: JSON lines, or a console.

The last step before a line is written takes secrets out of every text in it and
escapes what could end the line or drive a terminal.  Exceptions are described,
never printed: no locals, no text of a driver (it quotes rows), no text of a
foreign exception unless a run's redactor is there to clean it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from harvestd.errors import DatabaseError, Unreachable
from harvestd.observing import lines
from harvestd.observing.events import EVENTS
from harvestd.observing.redaction import redact
from harvestd.observing.tracebacks import describe
from harvestd.settings import Settings

Renderer = Callable[[WrappedLogger, str, EventDict], bytes]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Installed:
    """What `shows` looks at."""

    level = logging.WARNING


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (default: stderr, so that stdout stays the answer of a command)."""
    out = sys.stderr if stream is None else stream
    on_terminal = out.isatty()
    render: Renderer
    if settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal):
        render = lines.to_json
    else:
        render = lines.to_console(colors=on_terminal and not os.environ.get("NO_COLOR"))
    _install(LEVELS[settings.log_level], render, lines.Lines(out))
    _route_libraries()


def shows(level: str) -> bool:
    """Whether lines of that level are written: a fifth of the cost of finding out by writing."""
    return LEVELS[level] >= _Installed.level


def get_logger() -> FilteringBoundLogger:
    """The logger of a module; it follows every later ``configure``."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def _install(level: int, render: Renderer, out: lines.Lines) -> None:
    _Installed.level = level
    structlog.configure(
        processors=[
            _add_current_fields,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _note_unknown_event,
            _describe_exception,
            lines.clean_event,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=False,
    )


def report_database_error(error: DatabaseError, consequence: str) -> None:
    """Log what became of a piece of work whose statement failed: the next cycle repeats it."""
    if isinstance(error, Unreachable):
        get_logger().error("database_unreachable", code=error.code, reason=consequence)
    else:
        reason = f"{consequence}: {error.what}"
        get_logger().error("database_refused", code=error.code, reason=reason)


# One variable: structlog's own context has one a field, and takes 10 µs a run to set and reset.
current_fields: ContextVar[Mapping[str, object]] = ContextVar(
    "harvestd_log_fields", default=MappingProxyType({})
)
"""What every line says that is logged within a run: tenant_id, source, script, fence."""


def _add_current_fields(_log: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**current_fields.get(), **event}


def _note_unknown_event(_log: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # Never an error: a misspelt name must not cost the line, nor the run that logs it.
    if event.get("event") not in EVENTS:
        event["unknown_event"] = True
    return event


def _describe_exception(_log: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if given is True:
        given = sys.exc_info()[1]
    elif isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = describe(given)
    return event


class LibraryHandler(logging.Handler):
    """Passes the warnings of uvicorn, apscheduler, asyncio and all others into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, whatever the record holds; only the first line of its message."""
        try:
            message = record.getMessage()
        except Exception:  # a library's wrong % arguments must not end the caller
            message = str(record.msg)
        # asyncio puts the representation of a task, its exception's text included, below.
        first = redact(message.partition("\n")[0], chars_max=lines.TEXT_CHARS_MAX)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        write = get_logger().error if level == "error" else get_logger().warning
        write("library_logged", logger=record.name, message=first, exc_info=record.exc_info)


def _route_libraries() -> None:
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(LibraryHandler(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)  # a script's warning may quote a secret; stderr knows no redactor


# Before `configure`, structlog's own default would print tracebacks with their locals.
_install(logging.WARNING, lines.to_console(colors=False), lines.Lines(None))
