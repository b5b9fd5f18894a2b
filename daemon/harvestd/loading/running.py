"""The statements of a schema.sql, run by the source's own role in one transaction.

Each file is run twice where there is something already: first on an empty schema, in a transaction
that cannot commit (``harvestd_api.empty_schema``), so that ``comparison.py`` knows what it says;
then on the tables there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from harvestd.database.pool import LOST
from harvestd.database.transaction import whole_transaction
from harvestd.errors import SchemaRefused
from harvestd.loading.ddl import DdlStatement
from harvestd.loading.described import Described, describe_schema
from harvestd.loading.inspection import inspect_made
from harvestd.loading.refusals import (
    LOCK_SECONDS,
    STATEMENT_SECONDS,
    all_found,
    failed,
    fails_on_empty,
    left_transaction,
)
from harvestd.loading.writes import quoted

# RESET ALL goes first: what the file has set must not decide how our statements are read.
OUR_SESSION = f"""
    RESET ALL;
    SET search_path = pg_catalog, pg_temp;
    SET statement_timeout = '{STATEMENT_SECONDS}s';
    SET lock_timeout = '{LOCK_SECONDS}s'
"""
# Two texts, so that no statement prepared before the file ran is used after it: it could have
# put its own in the place of one.
TRANSACTION_BEFORE = "SELECT pg_catalog.pg_current_xact_id()::text AS before"
TRANSACTION_AFTER = "SELECT pg_catalog.pg_current_xact_id()::text AS after"


@dataclass(frozen=True, slots=True)
class OnEmpty:
    """What a file makes on an empty schema, or why that is not known.

    ``refused``: it fails there, or what it makes breaks the wall; ``unknown``: the daemon's role
    may not try.
    """

    described: Described | None = None
    refused: SchemaRefused | None = None
    unknown: str | None = None


class _RollBack(Exception):
    pass


@asynccontextmanager
async def file_transaction(
    own: asyncpg.Connection[Any], source: str, *, keep: bool
) -> AsyncIterator[None]:
    """A transaction around `run_file`, rolled back at the end unless it is to ``keep``.

    Raises: SchemaRefused for whatever fails in it.
    """
    try:
        async with whole_transaction(own):
            await own.execute(OUR_SESSION)
            yield
            if not keep:
                raise _RollBack
    except _RollBack:
        pass
    except (asyncpg.PostgresError, *LOST) as error:
        if isinstance(error.__context__, asyncio.CancelledError | SchemaRefused):
            raise error.__context__ from None  # a lost connection cannot even roll back
        if isinstance(error.__context__, _RollBack):
            return
        raise failed(source, error, None) from None


async def run_file(
    own: asyncpg.Connection[Any], source: str, statements: Sequence[DdlStatement]
) -> None:
    """Run them; afterwards the session is ours again.  Raises: SchemaRefused."""
    before = await own.fetchval(TRANSACTION_BEFORE)
    await own.execute(f"SET search_path = {quoted(source)}, pg_temp")
    for statement in statements:
        try:
            await own.execute(statement.text)
        except (asyncpg.PostgresError, *LOST) as error:
            raise failed(source, error, statement) from None
    await own.execute(OUR_SESSION)
    if await own.fetchval(TRANSACTION_AFTER) != before:
        raise left_transaction(source)


async def run_on_empty(
    own: asyncpg.Connection[Any], source: str, statements: Sequence[DdlStatement]
) -> OnEmpty:
    """What the file makes on an empty schema; no table of anybody's is locked, nothing stays.

    ``own`` is not to be used again: the file may have prepared statements on it.
    """
    made: Described | None = None
    try:
        async with file_transaction(own, source, keep=False):
            try:
                await own.execute("SELECT harvestd_api.empty_schema($1)", source)
            except asyncpg.InsufficientPrivilegeError as error:
                return OnEmpty(unknown=error.message or "permission denied")
            await run_file(own, source, statements)
            # First: what the comparison asks for is what the file says, admitted or not.
            if findings := await inspect_made(own, source):
                return OnEmpty(refused=all_found(source, findings, statements))
            made = await describe_schema(own, source)
    except SchemaRefused as refused:
        return OnEmpty(refused=fails_on_empty(refused))
    return OnEmpty(made)
