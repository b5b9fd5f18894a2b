"""What a test wrote to the log."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from urllib.parse import quote

import orjson

from harvestd.observing import logs
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
