"""What must hold after any chaos; each finding is a sentence, and there must be none.

Rows and ledger are compared in one snapshot, so they must agree at any moment, also amid faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psutil

from harvestd.database.pool import closing
from tests.crash.sources.chaos import _upstream, listed
from tests.crash.world import SEATS_MAX, Replica, World

ROOM = {"memory in bytes": 40 << 20, "descriptors": SEATS_MAX + 8, "threads": 4}
"""How much more than at the beginning is still the baseline."""

LOADED = """
SELECT run.tenant_id, run.script, run.covered, run.origin,
       rows.n, rows.distinct_n, rows.low, rows.high, rows.wrong
FROM data_source_run AS run
CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(DISTINCT number) AS distinct_n, min(number) AS low,
           max(number) AS high, count(*) FILTER (WHERE body <> run.tenant_id || ':' || number)
               AS wrong
    FROM (SELECT number, body FROM chaos.event
          WHERE tenant_id = run.tenant_id AND script = run.script
          UNION ALL
          SELECT number, body FROM chaos.kept
          WHERE tenant_id = run.tenant_id AND run.script = 'upserted') AS loaded) AS rows
WHERE run.script <> 'listed'
ORDER BY run.tenant_id, run.script
"""

SAME_TIME = """
WITH marks AS (
    SELECT tenant_id, script, attempt, at FROM chaos.probe
    UNION ALL
    SELECT tenant_id, script, attempt, written_at FROM chaos.event
),
spans AS (
    SELECT tenant_id, script, attempt, min(at) AS began, max(at) AS ended
    FROM marks GROUP BY tenant_id, script, attempt
    UNION ALL
    SELECT tenant_id, 'history of ' || script, fence::text, started_at, ended_at
    FROM harvestd.run_history
),
following AS (
    SELECT spans.*, lead(began) OVER (
        PARTITION BY tenant_id, script ORDER BY began, ended) AS next_began
    FROM spans
)
SELECT tenant_id, script, attempt, ended - next_began AS overlap
FROM following WHERE next_began < ended
"""

LEFT_BEHIND = """
SELECT 'RUNNING without a living replica: ' || run.tenant_id || '/' || run.script AS what
FROM data_source_run AS run
WHERE run.status = 'RUNNING' AND NOT EXISTS (
    SELECT FROM harvestd.replica AS replica
    WHERE replica.replica_id = run.replica_id AND replica.dead_at IS NULL)
UNION ALL
SELECT 'a backend bound to no run, or for no living replica: ' || binding.seat
FROM harvestd.binding AS binding
JOIN pg_stat_activity AS backend
  ON backend.pid = binding.pid AND backend.backend_start = binding.backend_start
WHERE NOT EXISTS (SELECT FROM data_source_run AS run WHERE run.run_no = binding.run_no)
   OR NOT EXISTS (SELECT FROM harvestd.replica AS replica
                  WHERE replica.replica_id = binding.replica_id AND replica.dead_at IS NULL)
UNION ALL
SELECT 'too many connections: ' || count(*) || ' of ' || min(application_name)
FROM pg_stat_activity WHERE application_name LIKE 'harvestd: %'
GROUP BY CASE WHEN application_name LIKE 'harvestd: seat %' THEN 'seats' ELSE application_name END
HAVING count(*) > $1 * CASE WHEN min(application_name) LIKE 'harvestd: seat %' THEN $2 ELSE 1 END
"""

COUNTS = """
SELECT (SELECT count(*) FROM harvestd.run_history WHERE reason = 'holder_died') AS takeovers,
       (SELECT sum(fence) FROM data_source_run) AS fences,
       (SELECT count(*) FROM chaos.event) AS rows
"""


@dataclass
class Counts:
    """What happened so far."""

    claims: int = 0
    takeovers: int = 0
    lost: int = 0
    """Attempts whose holder was told that they are no longer its own."""
    rows: int = 0
    duplicates: int = 0
    missing: int = 0


@dataclass
class Oracle:
    """Looks at a world; remembers what its replicas used when nothing had happened yet."""

    world: World
    usual: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    found: list[str] = field(default_factory=list)
    """What the last look found."""

    def begin(self) -> None:
        """Take the present use of memory and descriptors for the usual one."""
        used = [_used(replica) for replica in self.world.replicas]
        self.usual = {what: max(one[what] for one in used) + ROOM[what] for what in ROOM}

    async def look(self) -> list[str]:
        """What is wrong, once the faults are over and the world has settled."""
        found: list[str] = []
        async with closing(await asyncpg.connect(self.world.admin_url)) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                loaded = await connection.fetch(LOADED)
                overlaps = await connection.fetch(SAME_TIME)
                snapshot = await connection.fetch(
                    "SELECT tenant_id, count(*) AS n FROM chaos.listed WHERE deleted_at IS NULL"
                    " GROUP BY tenant_id"
                )
                counted = await connection.fetchrow(COUNTS)
            left = await connection.fetch(LEFT_BEHIND, len(self.world.replicas), SEATS_MAX)
        self._count(loaded, counted)
        for row in loaded:
            found += loaded_wrongly(row)
        found += [f"at the same time twice: {dict(row)}" for row in overlaps]
        found += [f"a listing of {row['n']}" for row in snapshot if row["n"] != listed.LENGTH]
        found += [str(row["what"]) for row in left]
        found += self._processes()
        self.found = found
        return found

    def _count(self, loaded: list[Any], counted: Any) -> None:
        appended = [row for row in loaded if row["script"] != "upserted"]
        lines = [line for one in self._all() for line in one.daemon.lines]
        self.counts = Counts(
            claims=int(counted["fences"] - counted["takeovers"]) - self.world.raised,
            takeovers=int(counted["takeovers"]),
            lost=sum('"run_lost"' in line for line in lines),
            rows=int(counted["rows"]),
            duplicates=sum(row["n"] - row["distinct_n"] for row in appended),
            missing=sum(max(0, _wanted(row) - row["distinct_n"]) for row in appended),
        )

    def _all(self) -> list[Replica]:
        return [*self.world.gone, *self.world.replicas]

    def _processes(self) -> Iterator[str]:
        for replica in self.world.gone:
            code = replica.daemon.process.returncode
            if code not in ({0, -9, -15} if replica.stopped_by_us else {-9}):
                tail = "\n".join(replica.daemon.lines[-20:])
                yield f"a daemon ended by itself with {code}:\n{tail}"
        for replica in self.world.replicas:
            for what, used in _used(replica).items():
                if used > self.usual[what]:
                    yield f"{what}: {used}, beyond {self.usual[what]}"
        for replica in self._all():
            for line in replica.daemon.lines:
                if '"code":"mistake"' in line or "Traceback (most recent" in line:
                    yield f"a mistake in the log: {line[:2000]}"


def loaded_wrongly(row: Any) -> Iterator[str]:
    """What is wrong with the rows of one run, against its ledger and the upstream."""
    name = f"{row['tenant_id']}/{row['script']}"
    spans = list(row["covered"])
    if len(spans) != 1 or spans[0].lower != row["origin"]:
        yield f"{name}: the ledger has gaps: {spans}, since {row['origin']}"
        return
    wanted = _upstream.numbers(spans[0].lower, spans[0].upper)
    if row["n"] != row["distinct_n"]:
        yield f"{name}: {row['n'] - row['distinct_n']} rows twice"
    if row["wrong"]:
        yield f"{name}: {row['wrong']} rows of somebody else"
    if row["script"] == "upserted":
        # Rows come first and the ledger follows: there may be more, never less.
        if row["low"] != wanted[0] or row["high"] < wanted[-1]:
            yield f"{name}: {row['low']}..{row['high']} instead of {wanted}"
        elif row["distinct_n"] != row["high"] - row["low"] + 1:
            yield f"{name}: rows are missing"
    elif (row["distinct_n"], row["low"], row["high"]) != (len(wanted), wanted[0], wanted[-1]):
        yield f"{name}: {row['distinct_n']} rows, {row['low']}..{row['high']}, instead of {wanted}"


def _wanted(row: Any) -> int:
    return sum(len(_upstream.numbers(span.lower, span.upper)) for span in row["covered"])


def _used(replica: Replica) -> dict[str, int]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(replica.pid)
        return {
            "memory in bytes": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }
    return {}
