"""What a log line says of an exception: types, places and codes; no locals, no rows."""

from __future__ import annotations

import errno
import traceback

from harvestd.errors import HarvestdError
from harvestd.observing.redaction import SHAPES_ONLY, current_redactor

FRAMES_MAX = 30
EXCEPTIONS_MAX = 8
TEXT_CHARS_MAX = 1000
# asyncpg's texts quote arguments and whole rows ("Failing row contains ..."), pydantic's the
# input; what may be said of them are names and codes.
SILENT_MODULES = ("asyncpg", "pydantic", "pydantic_core", "pydantic_settings")
NAMES_OF_THE_DATABASE = (
    "sqlstate",
    "schema_name",
    "table_name",
    "column_name",
    "constraint_name",
)


def describe(error: BaseException) -> list[dict[str, object]]:
    """The exception, then its causes and the members of a group, EXCEPTIONS_MAX at most."""
    found: list[dict[str, object]] = []
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(found) < EXCEPTIONS_MAX:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        found.append(_described(one))
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        cause = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if cause is not None:
            waiting.append(cause)
    return found


def summary(error: BaseException) -> str:
    """One line: the type, and what may be said of it; of our own errors what, why and next."""
    if isinstance(error, HarvestdError):
        return str(error)
    described = _described(error)
    described.pop("at", None)
    name = str(described.pop("type"))
    said = [str(value) for value in described.values()]
    return ": ".join([name, *said[:1]]) + "".join(f"; {value}" for value in said[1:])


def _described(error: BaseException) -> dict[str, object]:
    kind = type(error)
    module = kind.__module__
    described: dict[str, object] = {
        "type": kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    }
    if isinstance(error, HarvestdError):
        described |= {"code": error.code, "what": error.what}
        described |= {"why": error.why} if error.why else {}
        described |= {"next_step": error.next_step} if error.next_step else {}
    elif current_redactor.get() is not SHAPES_ONLY and not _is_silent(kind):
        text = _text_of(error)
        if text:
            described["text"] = current_redactor.get().clean(text, TEXT_CHARS_MAX)
    if isinstance(error, OSError) and error.errno is not None:
        described["errno"] = errno.errorcode.get(error.errno, str(error.errno))
    for name in NAMES_OF_THE_DATABASE:
        if isinstance(value := getattr(error, name, None), str):
            described[name] = value
    described["at"] = _places(error)
    return described


def _is_silent(kind: type[BaseException]) -> bool:
    # Its bases too: a script's own subclass of an asyncpg error prints the same text.
    return any(base.__module__.partition(".")[0] in SILENT_MODULES for base in kind.__mro__)


def _text_of(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return str(error.message)
    try:
        return str(error)
    except Exception:  # a script's __str__ may raise, and the line is worth more
        return ""


def _places(error: BaseException) -> list[str]:
    frames = list(traceback.walk_tb(error.__traceback__))[-FRAMES_MAX:]
    return [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}" for frame, line in frames
    ]
