"""A run's life as plain Python: what each act makes of its row, without a database or a clock.

Source time is counted in hours after the origin.  The last one, ``NOW - 1``, is under way: a date
that is set to the future counts as the end of it.  ``due`` and ``waiting`` stand for due_at and
not_before, both of which tests see as past or future only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HOURS = 72
"""Of the source time that windows reach."""
NOW = HOURS + 1
NEVER = 1 << 30


@dataclass(slots=True)
class Row:
    """What ``data_source_run`` must say."""

    started: int
    """On the model's own clock."""
    status: str = "PENDING"
    fence: int = 0
    holder: str | None = None
    covered: set[int] = field(default_factory=set)
    date: int | None = None
    origin: int = 0
    due: bool = True
    waiting: bool = False
    failures: int = 0
    deaths: int = 0
    retired: bool = False
    plugin: str | None = None

    @property
    def reached(self) -> int | None:
        """The end of the newest covered stretch."""
        return max(self.covered) + 1 if self.covered else None

    def cover(self, start: int, end: int) -> None:
        """A window, or a part of it, is in the ledger."""
        self.covered |= set(range(start, end))
        self.date, self.deaths = self.reached, 0

    def intervene(self) -> None:
        """What every act of an operator has in common: due now, and nobody goes on from before."""
        self.due, self.waiting, self.failures, self.deaths = True, False, 0, 0
        self.fence += self.holder is not None

    def give_up(self, status: str = "PENDING", *, due: bool = True) -> None:
        """It is in nobody's hand any more."""
        self.status, self.holder, self.due = status, None, due


@dataclass(slots=True)
class Life:
    """The row, if there is one, and what the database knows besides."""

    tenant: bool = True
    configured: bool = True
    paused: bool = False
    plugin: str = "plugin 1"
    row: Row | None = None
    clock: int = 0
    changed: bool = True
    """The configuration, since the last cycle."""
    plugin_changed: bool = True
    seen_plugin_late: bool = False
    """It was under way with the old plugin when the new one came."""
    to_wake: int | None = None
    """A run that started before this moment may not have seen the configuration's change."""

    @property
    def listed(self) -> bool:
        """Whether a cycle finds it due."""
        row = self.row
        if row is None or row.retired or row.waiting or self.paused or row.holder is not None:
            return False
        return row.due or row.fence == 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def cycle(self) -> None:
        """Plugins that changed, the difference of configurations and rows, then their changes."""
        self._wake_changed_plugin()
        row = self.row
        if self.configured and row is None:
            self.row = row = Row(started=self.tick())
        elif row is not None and self.configured and row.retired:
            row.retired, row.due, row.waiting = False, True, False
        elif row is not None and not self.configured and not row.retired:
            row.retired = True
            row.fence += row.holder is not None
        self._wake()

    def _wake_changed_plugin(self) -> None:
        row, asked = self.row, self.plugin_changed or self.seen_plugin_late
        self.plugin_changed = self.seen_plugin_late = False
        if not asked or row is None or row.retired or not (row.failures or row.deaths):
            return
        if row.plugin == self.plugin:
            return
        if row.holder is not None:
            self.seen_plugin_late = True
            return
        row.due, row.failures, row.deaths = True, 0, 0
        row.waiting &= row.status != "FAILED"

    def _wake(self) -> None:
        row, before, again = self.row, NEVER if self.changed else self.to_wake, not self.changed
        self.changed, self.to_wake = False, None
        if before is None or row is None or row.retired or row.started >= before:
            return
        if row.holder is not None:
            self.to_wake = min(before, self.tick())
        elif row.failures or row.deaths or row.waiting or row.status == "WAITING":
            row.due, row.waiting, row.failures = True, False, 0
            # One under way may have died of the new configuration.
            row.deaths = row.deaths if again and row.status != "FAILED" else 0

    def claim(self, holder: str) -> None:
        assert self.row is not None
        self.row.status, self.row.holder, self.row.plugin = "RUNNING", holder, self.plugin
        self.row.fence += 1
        self.row.started = self.tick()

    def end(self, outcome: str) -> None:
        """An attempt is recorded; a failure's first retry is at once, later ones back off."""
        row = self.row
        assert row is not None
        row.waiting, row.deaths = outcome == "waiting until", 0
        match outcome:
            case "completed":
                row.failures = 0
                row.give_up("COMPLETED", due=False)  # its interval is an hour
            case "failed" | "timed_out":
                row.failures += 1
                row.give_up("FAILED", due=row.failures == 1)
            case "waiting until":
                row.give_up("WAITING")
            case "waiting":
                row.give_up("WAITING", due=False)
            case _:
                row.give_up()

    def stray(self) -> None:
        """Its holder does not know of it: given back, backing off from the second time on."""
        assert self.row is not None
        self.row.give_up(due=self.row.failures == 0)
        self.row.failures += 1

    def bury(self) -> None:
        """Its holder died; after the third death in a row it stops."""
        row = self.row
        assert row is not None
        stops = row.deaths >= 2
        row.give_up("FAILED" if stops else "PENDING", due=row.failures == 0)
        row.waiting |= stops
        row.fence, row.failures, row.deaths = row.fence + 1, row.failures + 1, row.deaths + 1

    def reset(self) -> None:
        if self.row is not None:
            self.row.covered, self.row.date = set(), None
            self.row.intervene()

    def backfill(self, start: int, end: int) -> None:
        row, gone = self.row, set(range(start, end))
        if row is None or row.retired or not (row.covered & gone or start < row.origin):
            return
        if row.covered & gone:
            row.covered -= gone
            row.date = row.reached
        row.origin = min(row.origin, start)
        row.intervene()

    def set_date(self, date: int | None) -> None:
        """By hand; the same date again says nothing, but the present is never the same."""
        row = self.row
        if row is None or (date == row.date and date != NOW):
            return
        seen = row.origin if row.reached is None else row.reached
        if date is None:
            row.covered = set()
        elif date < seen or (date == seen and not row.covered):
            row.covered = {hour for hour in row.covered if hour < date}
            row.origin = min(row.origin, date)
        else:
            row.covered |= set(range(seen, date))
        row.date = date
        row.intervene()

    def set_status(self, status: str) -> None:
        """By another program, which knows nothing of holders."""
        if self.row is None:
            return
        if self.row.holder is None:
            self.row.status = status
        elif status != "RUNNING":
            self.row.fence += 1

    def trigger(self) -> None:
        row = self.row
        if row is not None and not row.retired and row.holder is None:
            row.due, row.waiting, row.deaths = True, False, 0

    def pause(self) -> None:
        self.paused = True
        if self.row is not None and not self.row.retired and self.row.fence:
            self.row.fence += 1

    def resume(self) -> None:
        if self.paused and self.row is not None and not self.row.retired:
            self.row.due = True
        self.paused = False

    def configure(self, *, configured: bool) -> None:
        self.changed |= configured or self.configured
        self.configured = configured

    def remove_tenant(self, *, with_runs: bool) -> None:
        """By the application: configurations go with it, its runs only if it removes them too."""
        self.tenant = self.paused = self.configured = False
        self.changed = True
        if with_runs:
            self.row = None
