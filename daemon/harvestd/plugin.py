"""What a plugin imports, and the only module of harvestd that it does.

    from harvestd.plugin import ScriptFailed, Unauthorised, Wait
    from harvestd.plugin import allowed, cache_folder, log, progress

Everything here knows which run it is called for from a context variable that the
executor sets, so it works in every task that run() starts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from harvestd.errors import RunError, ScriptFailed, Waits
from harvestd.observing.logs import get_logger

__all__ = [
    "ScriptFailed",
    "Unauthorised",
    "Wait",
    "allowed",
    "cache_folder",
    "log",
    "progress",
]


class Surroundings(NamedTuple):
    """What a script may know of the process around it; set by the executor."""

    cache_folder: Callable[[], Path]
    """Which folder is the run's own; most scripts never ask."""
    allowed: frozenset[str]
    report_progress: Callable[[int, int | None], None]


surroundings: ContextVar[Surroundings] = ContextVar("harvestd_surroundings")


class Wait(Waits):
    """Raise it when the upstream wants no requests until ``until`` (aware): frees the slot.

    Never sleep for long inside run(): the run becomes WAITING and goes on by itself.
    """

    def __init__(self, until: datetime, reason: str) -> None:
        if until.tzinfo is None:
            raise ValueError("Wait needs a datetime with a time zone")
        super().__init__(until.astimezone(UTC), str(reason))


class Unauthorised(Waits):
    """Raise it when the upstream refuses the credentials.

    The run is WAITING until the configuration changes, and is tried again hourly.
    """

    code = "unauthorised"

    def __init__(self, reason: str) -> None:
        super().__init__(None, str(reason))


def progress(done: int, total: int | None = None) -> None:
    """Say how far the run is, in any unit (commits, pages); cheap, call it often."""
    _here().report_progress(done, total)


def cache_folder() -> Path:
    """A folder of this tenant's and data source's own, kept between runs; it may be emptied."""
    folder = _here().cache_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def allowed(what: str) -> bool:
    """Whether the operator admits something, for example ``local_repositories``."""
    return what in _here().allowed


class _Log:
    """The run's log: ``log.info("pages_read", pages=3)``.  Secrets of the run are redacted."""

    def __getattr__(self, level: str) -> Callable[..., Any]:
        if level not in {"debug", "info", "warning", "error"}:
            raise AttributeError(f"log has debug, info, warning and error, not {level!r}")

        def write(message: str, **values: object) -> None:
            getattr(get_logger(), level)("script_logged", message=message, values=values)

        return write


log = _Log()


def _here() -> Surroundings:
    try:
        return surroundings.get()
    except LookupError:
        raise RunError(
            "harvestd.plugin was used outside a run",
            why="there is no run whose progress, cache or log this could be",
            next_step="call it from run(), or from tasks that run() starts",
        ) from None
