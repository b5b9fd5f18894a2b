"""The protocol of executors: how one call of a script's run() is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from harvestd.catalog.script import Script
from harvestd.loading.facade import Db
from harvestd.plugin import Surroundings
from harvestd.tenants.config import Env
from harvestd.terms import RunKey, Window


@dataclass(frozen=True, slots=True)
class Call:
    """One call of run(): a script, for a run (which names the tenant), over a window."""

    script: Script
    key: RunKey
    window: Window
    env: Env = field(repr=False)
    db: Db = field(repr=False)
    surroundings: Surroundings = field(repr=False)
    seconds_max: float
    """Its time limit."""


class Executor(Protocol):
    """Makes calls.  Returns when run() did; raises what run() raised, as an Exception.

    Raises: ScriptTimedOut; ScriptFailed, for what must not leave a script (SystemExit ...).
    """

    name: str

    async def run(self, call: Call) -> None:
        """Make one call, until it ends or is cancelled."""
        ...
