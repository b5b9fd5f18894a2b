"""Every error harvestd raises on purpose: what happened, why, and the next step.

No field ever holds a secret or a row: asyncpg's texts quote values, so they are
reduced to SQLSTATE and names where they are translated (``database/pool.py``).
"""

from __future__ import annotations

import difflib
from datetime import datetime

SIMILAR_KEY = 0.8
"""Keys of one source begin alike: DESK_TOKN is DESK_TOKEN, DESK_URL is not."""


class HarvestdError(Exception):
    """What happened; ``why`` it did; the ``next_step`` for whoever reads it.

    ``code`` is the field of logs and metrics.
    """

    code = "error"

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"why: {self.why}")
        if self.next_step:
            parts.append(f"next: {self.next_step}")
        return "; ".join(parts)


# The process and its settings


class SettingsError(HarvestdError):
    """A HARVESTD_* setting is missing, misspelt or refused."""

    code = "settings"


# The database


class DatabaseError(HarvestdError):
    """PostgreSQL refused a statement, or is not there."""

    code = "database"
    sqlstate: str | None = None


class Unreachable(DatabaseError):
    """No connection, or it was lost: nothing is known about the statement under way."""

    code = "unreachable"


class EntryRefused(DatabaseError):
    """PostgreSQL answers, but does not let us in: password, database, or right to connect."""

    code = "entry_refused"


class AddressRefused(DatabaseError):
    """HARVESTD_DATABASE_URL is not an address that can be connected to."""

    code = "address_refused"


class SchemaTooNew(DatabaseError):
    """A newer harvestd made a breaking change to this database."""

    code = "schema_too_new"


class SchemaTooOld(DatabaseError):
    """The database wants `harvestd migrate` first."""

    code = "schema_too_old"


class AdoptionRefused(DatabaseError):
    """The application's tables are not of the shape that can be taken over."""

    code = "adoption_refused"


class EmbeddedError(DatabaseError):
    """The embedded PostgreSQL cannot be started here."""

    code = "embedded"


class AlreadyOwned(EmbeddedError):
    """Another process owns the embedded PostgreSQL of this DATA_DIR."""

    code = "already_owned"


# Plugins


class PluginError(HarvestdError):
    """A plugin file cannot be used; the last good version stays in use.

    ``path`` and ``line`` say where, as far as that is known; ``text`` is all but the place.
    """

    code = "plugin"

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        next_step: str = "",
        path: str = "",
        line: int | None = None,
    ) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.path = path
        self.line = line

    @property
    def place(self) -> str:
        """File and line, as far as known."""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    @property
    def text(self) -> str:
        """What, why and the next step, without the place."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.path else self.text


class BadExport(PluginError):
    """A script file lacks something, or exports it with a wrong type."""

    code = "bad_export"


class SchemaRefused(PluginError):
    """A source's schema.sql failed, or holds what the wall does not admit."""

    code = "schema_refused"
    in_use = False
    """Whether a table was only in use at that moment."""


# Tenants


class TenantConfigError(HarvestdError):
    """A tenant's configuration cannot be used."""

    code = "tenant_config"


class MissingKey(TenantConfigError, KeyError):
    """A script asked for a configuration key that this tenant does not have."""

    code = "missing_key"

    def __init__(self, key: str, *, present: list[str], tenant_id: str, source: str) -> None:
        there = ", ".join(present) or "none"
        meant = difflib.get_close_matches(str(key), present, n=1, cutoff=SIMILAR_KEY)
        add = f"harvestd config set {tenant_id} {source} {key}"
        TenantConfigError.__init__(
            self,
            f"the configuration has no key {key!r}"
            + (f": did you mean {meant[0]!r}?" if meant else ""),
            why=f"keys of {source} for tenant {tenant_id}: {there}",
            next_step=f"ask for env[{meant[0]!r}] in the script, or {add}" if meant else add,
        )

    __str__ = HarvestdError.__str__


# Runs


class RunError(HarvestdError):
    """An attempt cannot go on."""

    code = "run"


class SeatsTaken(RunError):
    """All database connections for plugin SQL were in use for too long."""

    code = "seats_taken"

    def __init__(self, seats: int, longest: str, seconds: float) -> None:
        super().__init__(
            f"no database connection came free: all {seats} of this replica are in use",
            why=f"db.transaction() and db.stream() keep one until they end; the longest, of "
            f"{longest}, since {seconds:.0f} s",
            next_step="collect first and keep transactions short; or raise HARVESTD_SEATS_MAX, "
            "or start another replica",
        )


class LeaseLost(RunError):
    """Another replica or the operator owns the run now; nothing done since was committed."""

    code = "lease_lost"

    def __init__(self, run: str) -> None:
        super().__init__(
            f"lost the lease on {run}",
            why="this replica missed its heartbeats, or somebody changed the run while it was held",
            next_step="nothing to repair: the next attempt repeats the window; if it recurs, raise "
            "HARVESTD_LEASE_SECONDS or look for blocking calls in the script",
        )


class ScriptFailed(RunError):
    """A script says what failed, why, and what to do; or it ended as it must not."""

    code = "script_failed"


class ScriptTimedOut(RunError):
    """One call of run() went over its time limit."""

    code = "script_timed_out"


class WindowRefused(RunError):
    """A checkpoint outside the window, or backwards."""

    code = "window_refused"


class WriteRefused(RunError):
    """Rows that cannot be stored as they are; nothing of their batch was written."""

    code = "write_refused"


class Waits(RunError):
    """Not a failure: the upstream wants the run to go on later (see plugin.Wait)."""

    code = "waiting"

    def __init__(self, until: datetime | None, reason: str) -> None:
        super().__init__(reason)
        self.until = until
        self.reason = reason
