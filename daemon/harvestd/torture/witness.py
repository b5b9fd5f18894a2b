"""What must hold, asked of the database after every move, on a connection of its own.

Triggers in the scratch database keep a record of every change of a run row in the transaction
that makes it, and note at once what no protocol may do; the rest is compared with the upstream's
truth.  They belong to the superuser: no code under test can touch them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

LEAVE_SECONDS = 0.05
SCHEDULES_PER_VACUUM = 200

SOURCE = "torture"
APPENDING, KEYED = "append", "keyed"
SCHEMA = """
CREATE TABLE IF NOT EXISTS torture.event (tenant_id text NOT NULL, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS torture.thing (
    tenant_id text NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (tenant_id, at));
"""
"""The data source's tables: one without any key, where whatever is written twice shows."""

WITNESS = """
CREATE SCHEMA witness;
CREATE TABLE witness.violation (said text NOT NULL);
CREATE TABLE witness.item (at timestamptz NOT NULL);
CREATE TABLE witness.claim (run_no bigint NOT NULL, fence bigint NOT NULL);
CREATE TABLE witness.ledger (
    tenant_id text NOT NULL, script text NOT NULL, added tstzmultirange NOT NULL);

CREATE FUNCTION witness.say(what text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO witness.violation VALUES (what)
$$;

CREATE FUNCTION witness.watch_run() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added   tstzmultirange := NEW.covered - OLD.covered;
    by_hand boolean := current_setting('application_name') = 'harvestd: operator';
    claimed boolean := EXISTS (SELECT FROM witness.claim AS claim
                               WHERE claim.run_no = OLD.run_no AND claim.fence = OLD.fence);
BEGIN
    IF NEW.fence < OLD.fence THEN
        PERFORM witness.say('a fence fell');
    END IF;
    IF NEW.replica_id IS NOT NULL
       AND (NEW.replica_id IS DISTINCT FROM OLD.replica_id OR NEW.started_at <> OLD.started_at)
    THEN
        IF OLD.replica_id IS NOT NULL THEN
            PERFORM witness.say('a run was claimed while another held it');
        END IF;
        IF NEW.fence <= OLD.fence THEN
            PERFORM witness.say('a run was claimed without a new fence');
        END IF;
        IF NOT EXISTS (SELECT FROM harvestd.replica AS replica
                       WHERE replica.replica_id = NEW.replica_id AND replica.dead_at IS NULL) THEN
            PERFORM witness.say('a dead replica claimed a run');
        END IF;
        INSERT INTO witness.claim VALUES (NEW.run_no, NEW.fence);
    ELSIF NEW.completed_at IS DISTINCT FROM OLD.completed_at AND NOT claimed THEN
        PERFORM witness.say('an attempt was recorded although its fence had grown');
    ELSIF OLD.replica_id IS NOT NULL AND NEW.replica_id IS NULL AND NEW.fence > OLD.fence
          AND EXISTS (
              SELECT FROM harvestd.binding AS binding
              CROSS JOIN LATERAL pg_stat_get_activity(binding.pid) AS activity
              WHERE binding.run_no = OLD.run_no
                AND binding.replica_id = OLD.replica_id
                AND activity.backend_start = binding.backend_start) THEN
        PERFORM witness.say('a run of a dead replica was freed while its backend lived');
    END IF;
    IF NOT isempty(added) AND NOT by_hand THEN
        IF NOT claimed THEN
            PERFORM witness.say('source time was covered although the fence had grown');
        END IF;
        INSERT INTO witness.ledger VALUES (NEW.tenant_id, NEW.script, added);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER witness AFTER UPDATE ON public.data_source_run
    FOR EACH ROW EXECUTE FUNCTION witness.watch_run();

CREATE FUNCTION witness.watch_replica() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM witness.say('a replica that was declared dead lives again');
    RETURN NULL;
END
$$;
CREATE TRIGGER witness AFTER UPDATE ON harvestd.replica
    FOR EACH ROW WHEN (OLD.dead_at IS NOT NULL AND NEW.dead_at IS NULL)
    EXECUTE FUNCTION witness.watch_replica();

CREATE FUNCTION witness.watch_write() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM harvestd.me() AS bound
               JOIN public.data_source_run AS run ON run.run_no = bound.run_no
               WHERE run.fence <> bound.fence) THEN
        PERFORM witness.say('rows were written under a fence that had grown');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON torture.event
    FOR EACH STATEMENT EXECUTE FUNCTION witness.watch_write();
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON torture.thing
    FOR EACH STATEMENT EXECUTE FUNCTION witness.watch_write();
"""

# Each item that the ledger came to cover is there once for each time (an operator may have it
# read again); in the table with a key it is there.
VIOLATIONS = """
WITH promised AS (
    SELECT ledger.tenant_id, ledger.script, item.at, count(*) AS times
    FROM witness.ledger AS ledger
    JOIN witness.item AS item ON ledger.added @> item.at
    GROUP BY ledger.tenant_id, ledger.script, item.at
),
appended AS (
    SELECT event.tenant_id, event.at, count(*) AS times
    FROM torture.event AS event
    GROUP BY event.tenant_id, event.at
),
able AS (
    SELECT binding.pid, binding.run_no, binding.fence = run.fence AS current
    FROM harvestd.binding AS binding
    JOIN public.data_source_run AS run ON run.run_no = binding.run_no
    CROSS JOIN LATERAL pg_stat_get_activity(binding.pid) AS activity
    WHERE activity.backend_start = binding.backend_start
      AND activity.state IS DISTINCT FROM 'idle'
)
SELECT violation.said FROM witness.violation AS violation
UNION ALL
SELECT format('an item without a key is there %s times, and the ledger says %s',
              coalesce(appended.times, 0), coalesce(promised.times, 0))
FROM (SELECT * FROM promised WHERE script = 'append') AS promised
FULL JOIN appended USING (tenant_id, at)
WHERE appended.times IS DISTINCT FROM promised.times
UNION ALL
SELECT 'the ledger covers an item with a key that is not there'
FROM promised
WHERE promised.script = 'keyed'
  AND NOT EXISTS (SELECT FROM torture.thing AS thing
                  WHERE thing.tenant_id = promised.tenant_id AND thing.at = promised.at)
UNION ALL
SELECT 'a bookmark names what is not there'
FROM harvestd.bookmark AS bookmark
WHERE NOT EXISTS (SELECT FROM torture.event AS event
                  WHERE event.tenant_id = bookmark.tenant_id
                    AND event.at = (bookmark.value #>> '{}')::timestamptz)
UNION ALL
SELECT 'a backend can still commit what it wrote, and its fence has grown'
FROM able
WHERE NOT able.current
  AND EXISTS (SELECT FROM pg_locks AS held
              WHERE held.pid = able.pid
                AND held.mode = 'RowExclusiveLock'
                AND held.relation IN ('torture.event'::regclass, 'torture.thing'::regclass))
  AND NOT EXISTS (SELECT FROM pg_locks AS wanted
                  WHERE wanted.pid = able.pid AND NOT wanted.granted)
UNION ALL
SELECT 'two backends are in a transaction for one run'
FROM able WHERE able.current GROUP BY able.run_no HAVING count(*) > 1
"""

UNSETTLED = """
SELECT format('%s is %s, held %s, and lacks %s items', run.script, run.status,
              run.replica_id IS NOT NULL, count(item.at))
FROM public.data_source_run AS run
LEFT JOIN witness.item AS item ON item.at >= run.origin AND NOT run.covered @> item.at
GROUP BY run.run_no, run.script, run.status, run.replica_id
HAVING count(item.at) > 0 OR run.replica_id IS NOT NULL OR run.status <> 'COMPLETED'
UNION ALL
SELECT format('%s of 2 runs are enrolled', count(*))
FROM public.data_source_run AS run
WHERE run.retired_at IS NULL
HAVING count(*) < 2
"""

# Not the wait event: a backend shows it until it gets to run, however long ago it got the lock.
SEE_BACKENDS = """
WITH locked AS MATERIALIZED (
    SELECT DISTINCT pid FROM pg_locks WHERE NOT granted
)
SELECT activity.pid,
       locked.pid IS NOT NULL AS locked,
       activity.state IS NULL OR activity.state IN ('active', 'starting') AS active
FROM pg_stat_activity AS activity
LEFT JOIN locked ON locked.pid = activity.pid
WHERE activity.backend_type = 'client backend'
  AND activity.datname = current_database()
  AND activity.pid <> pg_backend_pid()
"""
DOOMED = """
SELECT binding.pid
FROM harvestd.binding AS binding
JOIN harvestd.replica AS replica
  ON replica.replica_id = binding.replica_id AND replica.dead_at IS NOT NULL
CROSS JOIN LATERAL pg_stat_get_activity(binding.pid) AS activity
WHERE activity.backend_start = binding.backend_start
"""
# Not that of one which is leaving: it holds its row, and may wait for a run.
AGE = """
UPDATE harvestd.replica AS replica
SET heartbeat_at = replica.heartbeat_at - $1::interval
FROM (SELECT locked.replica_id
      FROM harvestd.replica AS locked
      WHERE $2::uuid IS NULL OR locked.replica_id = $2::uuid
      FOR NO KEY UPDATE SKIP LOCKED) AS free
WHERE replica.replica_id = free.replica_id
"""
# Not truncated: with new files every connection would have to plan its statements anew.
CLEAN = """
DELETE FROM public.data_source_run;
DELETE FROM public.tenant;
DELETE FROM torture.event;
DELETE FROM torture.thing;
DELETE FROM harvestd.bookmark;
DELETE FROM harvestd.config_change;
DELETE FROM harvestd.run_history;
DELETE FROM harvestd.replica WHERE dead_at IS NOT NULL;
DELETE FROM harvestd.binding AS binding
    WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS activity WHERE activity.pid = binding.pid);
UPDATE harvestd.replica SET heartbeat_at = clock_timestamp();
DELETE FROM witness.violation;
DELETE FROM witness.claim;
DELETE FROM witness.ledger;
DELETE FROM witness.item;
"""


class Backends(NamedTuple):
    """By their process ids."""

    locked: set[int]
    """They wait for a lock."""
    working: set[int]
    there: set[int]


class Witness:
    """The superuser's connection to the scratch database."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._begun = 0

    async def begin(self, items: Sequence[datetime]) -> None:
        """Nothing is left of the schedule before; ``items`` is the upstream's truth."""
        self._begun += 1
        if self._begun % SCHEDULES_PER_VACUUM == 0:
            await self.connection.execute("VACUUM")
        await self.connection.execute(CLEAN)
        await self.connection.execute(
            "INSERT INTO witness.item SELECT unnest($1::timestamptz[])", items
        )

    async def violations(self) -> list[str]:
        """What does not hold at this moment, and a moment later.

        A backend that was just ended gives its row lock back before the others.
        """
        if not await self.connection.fetch(VIOLATIONS):
            return []
        await asyncio.sleep(LEAVE_SECONDS)
        return [row["said"] for row in await self.connection.fetch(VIOLATIONS)]

    async def claims(self) -> int:
        """How many claims there were, whether or not their answer arrived."""
        return int(await self.connection.fetchval("SELECT count(*) FROM witness.claim"))

    async def unsettled(self) -> list[str]:
        """Of each run that has not come to rest with everything covered: how far it is."""
        return [row[0] for row in await self.connection.fetch(UNSETTLED)]

    async def age(self, span: timedelta, replica_id: UUID | None) -> None:
        """Move a replica's heartbeat back by ``span``, or everybody's."""
        await self.connection.execute(AGE, span, replica_id)

    async def forget(self, living: Collection[UUID]) -> None:
        """Whoever is not among the living was not heard of for long, wherever the clock went."""
        await self.connection.execute(
            "UPDATE harvestd.replica SET heartbeat_at = '2000-01-01' WHERE replica_id <> ALL ($1)",
            list(living),
        )

    async def see_backends(self) -> Backends:
        """How the backends of this database are."""
        rows = await self.connection.fetch(SEE_BACKENDS)
        locked = {row["pid"] for row in rows if row["locked"]}
        working = {row["pid"] for row in rows if row["active"]} - locked
        return Backends(locked, working, {row["pid"] for row in rows})

    async def doomed(self) -> set[int]:
        """Backends that work for dead replicas."""
        return {row["pid"] for row in await self.connection.fetch(DOOMED)}

    async def terminate(self, pids: Collection[int]) -> None:
        """End these backends."""
        await self.connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS one (pid)", list(pids)
        )
