"""Every event that is logged: docs/events.md is this list, and a test holds the code to it.

To add one: a line here, `log.<level>("name", ...)` where it happens, then
`python -m tests.write_pages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Set once, by the runner (logs.current_fields) and the service.
CONTEXT_FIELDS = ("replica_id", "tenant_id", "source", "script", "fence")


@dataclass(frozen=True, slots=True)
class Event:
    """``level`` (several joined by "or"), the ``fields`` beside the context, ``what_to_do``."""

    level: str
    fields: tuple[str, ...]
    what_to_do: str

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels it may be logged at."""
        return tuple(self.level.split(" or "))


def _event(level: str, fields: str, what_to_do: str) -> Event:
    return Event(level, tuple(fields.split()), what_to_do)


NOTHING = "Nothing."

EVENTS: Mapping[str, Event] = MappingProxyType(
    {
        # The process
        "daemon_started": _event("info", "version data_dir", NOTHING),
        "daemon_ready": _event("info", "seconds", NOTHING),
        "daemon_stopping": _event("info", "reason runs", NOTHING),
        "daemon_stopped": _event("info", "seconds", NOTHING),
        "signal_received": _event(
            "info", "signal", "Nothing: SIGHUP starts a cycle, SIGTERM and SIGINT drain."
        ),
        "drain_finished": _event(
            "info",
            "runs_ended runs_cancelled seconds",
            "If runs were cancelled each time: raise HARVESTD_DRAIN_SECONDS, or let the "
            "script checkpoint more often. Nothing is lost either way.",
        ),
        "loop_blocked": _event(
            "error",
            "task seconds stack",
            "The script in `task` does not await: `stack` has the place, innermost first. Let it "
            "await, or do its work in asyncio.to_thread. At two thirds of a lease the process "
            "ends itself with exit code 70, to be started again.",
        ),
        "last_words_found": _event(
            "error",
            "at task seconds stack",
            "The process before this one ended itself, blocked by the script in `task`: see "
            "loop_blocked.",
        ),
        "http_listening": _event("info", "address", NOTHING),
        "embedded_started": _event(
            "info",
            "psql password_file",
            "Nothing: `psql` connects to the embedded PostgreSQL; its password is `harvestd` in "
            "that file.",
        ),
        "library_logged": _event(
            "warning or error",
            "logger message",
            "A warning of a library we use; report it with the line if it recurs.",
        ),
        # Cycles
        "cycle_finished": _event("info or debug", "forced runs_due tenants seconds", NOTHING),
        "cycle_failed": _event(
            "error",
            "code reason",
            "The next tick tries again; if it recurs, read `exception` and `code`. After a lease "
            "and two ticks of that, other replicas are the home of its tenants.",
        ),
        "turn_failed": _event(
            "error",
            "reason",
            "One tenant's turn or attempt ended by a mistake of harvestd; the next cycle lists it "
            "again. Report it with its `exception`.",
        ),
        "cycle_requested": _event("info", "reason", NOTHING),
        # The catalog
        "catalog_reloaded": _event("info", "scripts sources problems", NOTHING),
        "plugin_refused": _event(
            "error",
            "file line what",
            "Correct the file at that line; the last good version stays in use, the "
            "next tick reads it again.",
        ),
        "plugin_shadowed": _event(
            "warning",
            "file",
            "Two scripts have one name and the first in HARVESTD_PLUGIN_DIRS wins; rename "
            "or remove one unless that is meant.",
        ),
        # Runs
        "runs_enrolled": _event("info", "runs", NOTHING),
        "tenants_refused": _event(
            "error",
            "tenants",
            "Give these tenants shorter ids: one of more than 2,000 bytes fits into no index.",
        ),
        "runs_retired": _event(
            "info", "runs", "Nothing: their configuration is gone, their progress kept."
        ),
        "run_finished": _event(
            "info or warning or debug",
            "outcome rows_written windows duration_seconds reason",
            "On `failed` or `timed_out` read `reason` and the script_failed before it; "
            "on `waiting` see until when with `harvestd status TENANT`.",
        ),
        "run_blocked": _event(
            "warning",
            "blocked_by reason",
            "Mend or configure what is named in `blocked_by`; the run goes on by itself.",
        ),
        "run_lost": _event(
            "warning",
            "reason",
            "Nothing: the next attempt repeats the window. If it recurs raise "
            "HARVESTD_LEASE_SECONDS or look for blocking calls in the script.",
        ),
        "script_failed": _event(
            "warning",
            "code reason",
            "Read `exception`: its first line is the error, its `at` the place in the script. "
            "The run is retried, later each time.",
        ),
        "script_abandoned": _event(
            "error",
            "reason",
            "Let asyncio.CancelledError pass in that script, then restart the daemon: until then "
            "what is left of it goes on in the background, and its run fails.",
        ),
        "script_exit_ignored": _event(
            "error",
            "",
            "A callback of some script (`loop.call_soon`, a done callback) called sys.exit, which "
            "would have ended the process of all tenants. Leave it out of the script: return from "
            "run(), or raise an ordinary exception.",
        ),
        "script_logged": _event(
            "debug or info or warning or error",
            "message values",
            "The script's own line; ask its author.",
        ),
        # Replicas
        "heartbeat_missed": _event(
            "warning",
            "code reason",
            "Look at the database and at what blocks the event loop; at two thirds of a "
            "lease this replica gives its runs up.",
        ),
        "replica_dead": _event(
            "error",
            "reason",
            "Nothing: this replica was declared dead and goes on under a new id, as all may when "
            "the database's clock is set back. If it recurs raise HARVESTD_LEASE_SECONDS.",
        ),
        "replica_reaped": _event(
            "warning",
            "dead_replica_id",
            "Find out why that replica stopped; its runs go on in the others.",
        ),
        "reaping_failed": _event(
            "warning",
            "code reason",
            "Nothing, if it is one: the next third of a lease tries again. If it recurs, look at "
            "the database: runs of dead replicas are not taken over.",
        ),
        "runs_taken_over": _event(
            "warning",
            "runs",
            "Nothing: they go on by themselves. In each replica one at a time begins, alone among "
            "them for its first five seconds.",
        ),
        # The database
        "database_unreachable": _event(
            "error",
            "code reason",
            "Bring PostgreSQL back, or correct HARVESTD_DATABASE_URL; runs resume by themselves.",
        ),
        "database_refused": _event(
            "error",
            "code reason",
            "PostgreSQL is there and refused a statement, for the reason in `code`; the next "
            "cycle tries again. If it recurs, report it.",
        ),
        "database_back": _event("info", "", NOTHING),
        "clock_set_back": _event(
            "warning",
            "runs",
            "Look at the clock of the database's machine: these runs had started or ended in its "
            "future, and are due now. What they had covered beyond now left their ledgers. "
            "Replicas whose heartbeats lay ahead may be declared dead; they go on by themselves.",
        ),
        "migration_applied": _event("info", "migration", NOTHING),
        "connections_scarce": _event(
            "warning",
            "replicas seats_max connections_needed connections_max",
            "Raise max_connections of PostgreSQL, or lower HARVESTD_SEATS_MAX: when all seats are "
            "wanted at once, some cannot be opened, and their runs fail until others end.",
        ),
        "prepared_transactions_admitted": _event(
            "warning",
            "transactions_max",
            "Set max_prepared_transactions to 0 unless an application needs it: with PREPARE "
            "TRANSACTION a script can leave its run's row locked. Such a one stands in "
            "pg_prepared_xacts and ends with ROLLBACK PREPARED.",
        ),
        "schema_applied": _event("info", "seconds", NOTHING),
        "schema_leftovers_kept": _event(
            "warning",
            "what",
            "Nothing was dropped: schema.sql has these no more. If nobody needs them, drop them in "
            "the file, with IF EXISTS.",
        ),
        "schema_not_compared": _event(
            "warning",
            "what",
            "An edit inside CREATE TABLE IF NOT EXISTS is not noticed until the role of "
            "HARVESTD_DATABASE_URL may make schemas: GRANT CREATE ON DATABASE.",
        ),
        "schema_refused": _event(
            "error",
            "code what",
            "Correct schema.sql as `what` says; only this data source is blocked.",
        ),
        "seat_leased": _event("debug", "seat", NOTHING),
        "seat_ended": _event(
            "debug or warning",
            "seat reason",
            "On warning: the backend of a run was ended from outside; the run is repeated.",
        ),
    }
)
