"""What a scratch database gets before it is tortured, and the mistakes that are planted in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles
from harvestd.loading.schemas import apply_source_schema
from harvestd.service.app import prepare_database
from harvestd.torture.mutants import HOLD, Mutant
from harvestd.torture.witness import SCHEMA, SOURCE, WITNESS, Witness

# Nothing of it is worth keeping, so nothing waits for a disk.
SETTINGS = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET full_page_writes = off",
    # It would move rows at a time of its own.
    "ALTER SYSTEM SET autovacuum = off",
    "ALTER SYSTEM SET jit = off",
    # Few rows, and new connections: a plan for each set of parameters is never worth it.
    "ALTER SYSTEM SET plan_cache_mode = force_generic_plan",
    # Rows come in the order of a key, wherever those of earlier schedules lay.
    "ALTER SYSTEM SET enable_seqscan = off",
    "SELECT pg_reload_conf()",
)


@dataclass(frozen=True, slots=True)
class Scratch:
    """The addresses of the daemon's role and of the superuser."""

    url: str = field(repr=False)
    admin_url: str = field(repr=False)


@asynccontextmanager
async def prepared(scratch: Scratch) -> AsyncIterator[tuple[Witness, Roles]]:
    """The schema, the tables to write to, and the witness."""
    async with (
        Database(scratch.url) as database,
        closing(await Database(scratch.admin_url).connect("witness")) as connection,
    ):
        for setting in SETTINGS:
            await connection.execute(setting)
        roles = await prepare_database(database)
        await apply_source_schema(database, roles, source=SOURCE, schema_sql=SCHEMA)
        await connection.execute(WITNESS)
        yield Witness(connection), roles


@asynccontextmanager
async def mutated(witness: Witness, mutant: Mutant | None) -> AsyncIterator[None]:
    """The scratch database with the mistake in it, for the length of the block."""
    if mutant is None or not mutant.hold:
        yield
        return
    connection = witness.connection
    correct = text = await connection.fetchval("SELECT pg_get_functiondef($1::regprocedure)", HOLD)
    for change in mutant.hold:
        text = change.made_in(text)
    await connection.execute(text)
    try:
        yield
    finally:
        await connection.execute(correct)
