"""From an event to the bytes of one line: cleaned, escaped, bounded, rendered, written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import TextIO, TypeVar
from uuid import UUID

import orjson
from structlog.typing import EventDict, WrappedLogger

from harvestd.observing import metrics
from harvestd.observing.events import CONTEXT_FIELDS, EVENTS
from harvestd.observing.redaction import SECRET_CHARS_MIN, Redactor, current_redactor
from harvestd.observing.tracebacks import summary

Item = TypeVar("Item")

TEXT_CHARS_MAX = 8192
DEPTH_MAX = 6
ITEMS_MAX = 100
# What ends a line, drives a terminal or turns the reading direction; and lone surrogates,
# which no UTF-8 has.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
TEXTUAL = (Decimal, UUID, PurePath, timedelta, date, time)
OUR_NAMES = frozenset(
    {name for event in EVENTS.values() for name in event.fields} | set(CONTEXT_FIELDS)
)
HEAD = ("timestamp", "level", "event")
COLORS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
RESET = "\x1b[0m"


def clean_event(_log: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor before the renderer: nothing after it adds text of others."""
    redactor = current_redactor.get()
    ordered = {name: event.pop(name) for name in HEAD if name in event}
    return {
        (name if name in OUR_NAMES else _text(str(name), redactor)): _cleaned(
            value, redactor, DEPTH_MAX
        )
        for name, value in {**ordered, **event}.items()
    }


def escape(text: str) -> str:
    """``text`` on one line: control characters become visible, as ``\\n`` or ``\\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _text(text: str, redactor: Redactor) -> str:
    clean = escape(redactor.clean(text, TEXT_CHARS_MAX))
    return clean if len(text) <= TEXT_CHARS_MAX else f"{clean}... ({len(text)} characters)"


def _cleaned(value: object, redactor: Redactor, depth: int) -> object:  # noqa: PLR0911
    """``value`` as JSON has it.  Objects of unknown kinds are named, never printed: one
    may be a row."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not isinstance(value, Enum):
        # A number may be a secret, too, or wider than JSON's readers take.
        plain = str(value)
        if len(plain) < SECRET_CHARS_MIN:
            return value
        same = redactor.clean(plain) == plain and (isinstance(value, float) or abs(value) < 2**53)
        return value if same else _text(plain, redactor)
    if isinstance(value, str):
        return _text(value, redactor)
    if isinstance(value, Enum):
        return _cleaned(value.value, redactor, depth)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, TEXTUAL):
        return _text(str(value), redactor)
    if isinstance(value, BaseException):
        return _text(summary(value), redactor)
    if depth == 0:
        return "..."
    if isinstance(value, dict):
        return {
            _text(str(key), redactor): _cleaned(item, redactor, depth - 1)
            for key, item in _first(value.items())
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned(item, redactor, depth - 1) for item in _first(value)]
    return f"<{type(value).__qualname__}>"


def _first(items: Iterable[Item]) -> Iterable[Item]:
    return islice(items, ITEMS_MAX)


def to_json(_log: WrappedLogger, _method: str, event: EventDict) -> bytes:
    """One JSON object on one line."""
    return orjson.dumps(event)


def to_console(*, colors: bool) -> Callable[[WrappedLogger, str, EventDict], bytes]:
    """The renderer for people: time, level, event, name=value ...; exceptions below."""

    def render(_log: WrappedLogger, _method: str, event: EventDict) -> bytes:
        level = str(event.pop("level", "info"))
        moment = str(event.pop("timestamp", ""))[11:19]
        name = str(event.pop("event", ""))
        described = event.pop("exception", None)
        color, reset = (COLORS.get(level, ""), RESET) if colors else ("", "")
        pairs = "".join(f" {key}={_shown(value)}" for key, value in event.items())
        line = f"{moment} {color}{level:<7}{reset} {name}{pairs}"
        if isinstance(described, list):
            line += "".join(_block(one) for one in described)
        return line.encode("utf-8")

    return render


def _shown(value: object) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s=\"'\\]", value):
        return value
    return orjson.dumps(value).decode("utf-8")


def _block(described: Mapping[str, object]) -> str:
    said = "; ".join(f"{key}: {value}" for key, value in described.items() if key != "at")
    places = described.get("at")
    return f"\n    {said}" + "".join(
        f"\n      at {place}" for place in (places if isinstance(places, list) else ())
    )


class Lines:
    """Where lines go.  A full disk or a closed pipe costs lines, which are counted, and
    never the daemon."""

    def __init__(self, stream: TextIO | None) -> None:
        """``stream`` None: whatever stderr is when a line is written."""
        self._stream = stream

    def msg(self, line: bytes) -> None:
        """Write one line and flush it."""
        stream = sys.stderr if self._stream is None else self._stream
        try:
            octets = getattr(stream, "buffer", None)
            if octets is None:
                stream.write(line.decode("utf-8") + "\n")
            else:
                octets.write(line + b"\n")
            stream.flush()
        except (OSError, ValueError):
            metrics.LOG_LINES_DROPPED.inc()

    debug = info = warning = error = critical = exception = log = msg
