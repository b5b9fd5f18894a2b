"""Which database a command works on, and how it gets there.

HARVESTD_DATABASE_URL, or the embedded PostgreSQL of HARVESTD_DATA_DIR: `run` and `demo` own
that one, other commands connect beside its owner, or start it for their own duration.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

from harvestd.cli.looping import EndedBySignal
from harvestd.database.embedded import EmbeddedServer, embedded_server
from harvestd.database.migrations import check_schema
from harvestd.database.pool import Database, closing
from harvestd.errors import HarvestdError
from harvestd.observing.logs import configure
from harvestd.service.preparing import prepare_database
from harvestd.settings import PREFIX, Settings, load_settings

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")
Work = Callable[[Database], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Reached:
    """The database's address, which holds a password, and the embedded server if it is that."""

    url: str = field(repr=False)
    embedded: EmbeddedServer | None = None


def command_settings(*, log_level: str = "warning") -> Settings:
    """The settings of a command that answers and ends: ``log_level``, unless one was asked for."""
    asked = PREFIX + "LOG_LEVEL" in os.environ
    return load_settings() if asked else load_settings(None, log_level=log_level)


def ask_database(ask: Work[T]) -> T:
    """What ``ask``, which only reads, answers.

    Raises: HarvestdError when there is no database yet; SchemaTooOld, SchemaTooNew;
    Unreachable, EmbeddedError; whatever ``ask`` raises.
    """
    with changing_database(only_look=True) as call:
        answer: T = call(ask)
        return answer


@contextmanager
def changing_database(
    *, only_look: bool = False, makes: bool = False
) -> Iterator[Callable[[Work[Any]], Any]]:
    """What calls its argument with a database that is migrated first where that is admitted.

    Several calls in one block share an embedded server that was started for them, and may ask
    a person in between.  ``only_look`` (--dry-run, --watch): it is not migrated.  ``makes``: an
    embedded one that was never started is made; where only something that is there can change,
    a misspelt DATA_DIR should be told instead.

    Raises: SchemaTooOld, SchemaTooNew, Unreachable, EmbeddedError, HarvestdError.
    """
    settings = command_settings()
    configure(settings)
    prepare = _see_schema if only_look else _migrate
    with reached(settings, own=False, makes=makes) as at:
        yield lambda act: asyncio.run(_prepared(at.url, prepare, act))


async def _prepared(url: str, prepare: Work[None], work: Work[T]) -> T:
    async with Database(url) as database:
        await prepare(database)
        return await work(database)


async def _see_schema(database: Database) -> None:
    async with closing(await database.connect("status")) as connection:
        await check_schema(connection)


async def _migrate(database: Database) -> None:
    await prepare_database(database)


@contextmanager
def reached(settings: Settings, *, own: bool, makes: bool = True) -> Iterator[Reached]:
    """The database for the length of the block.

    ``makes``: an embedded one that was never started is made; otherwise that is an error.

    Raises: AlreadyOwned, EmbeddedError, HarvestdError.
    """
    if settings.database_url is not None:
        yield Reached(settings.database_url.get_secret_value())
        return
    if not makes and not (settings.data_dir.expanduser() / "pgdata").is_dir():
        raise HarvestdError(
            f"there is no database in {settings.data_dir} yet",
            why=f"{PREFIX}DATABASE_URL is not set, and nobody has started the embedded one there",
            next_step=f"harvestd tenant add, harvestd run, harvestd demo, or set "
            f"{PREFIX}DATABASE_URL or {PREFIX}DATA_DIR to where it is",
        )
    with ExitStack() as stack:
        # A signal must not leave the server behind without anybody who uses it.
        stack.enter_context(_signals_unwind(reload_ignored=own))
        server = stack.enter_context(embedded_server(settings.data_dir, own=own))
        stack.callback(_ignore_signals)  # from here on the server is stopped, which is quick
        yield Reached(server.url, server)


@contextmanager
def _signals_unwind(*, reload_ignored: bool) -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack, as Ctrl-C does; one that was ignored stays so."""

    def unwind(number: int, _: FrameType | None) -> None:
        raise EndedBySignal(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if before[number] is not signal.SIG_IGN:
            ignored = reload_ignored and number is signal.SIGHUP
            signal.signal(number, signal.SIG_IGN if ignored else unwind)
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, signal.SIG_DFL if action is None else action)


def _ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
