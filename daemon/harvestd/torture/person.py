"""An operator, who changes what there is to do while it is done."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from harvestd.database.step import step
from harvestd.errors import HarvestdError
from harvestd.service.acts import RunsChosen
from harvestd.terms import Window
from harvestd.torture.upstream import Upstream
from harvestd.torture.witness import APPENDING, KEYED, SOURCE
from harvestd.torture.world import World

TENANT = "acme"
DISTURBING = ("reset", "backfill", "earlier", "unset", "pause")
"""What takes a run from whoever holds it."""
ACTS = (*DISTURBING, "later", "set", "set", "resume", "resume", "trigger")


class Operator:
    """One person; ``whim`` decides what he does."""

    def __init__(self, world: World, upstream: Upstream, whim: random.Random) -> None:
        self.disturbing = False
        """Whether his next act is one that disturbs."""
        self._acts = world.acts
        self._line = world.operator_line
        self._upstream = upstream
        self._whim = whim

    async def operate(self) -> None:
        """Act after act."""
        while True:
            await step("operate")
            kind = self._whim.choice(DISTURBING if self.disturbing else ACTS)
            self.disturbing = False
            source, script = SOURCE, self._whim.choice((APPENDING, KEYED))
            start = self._upstream.origin + timedelta(hours=self._whim.randint(0, 40))
            try:
                if kind == "reset":
                    await self._acts.reset(TENANT, source, script)
                elif kind == "backfill":
                    window = Window(start, start + timedelta(hours=20))
                    await self._acts.backfill(RunsChosen(TENANT, source, script), window)
                elif kind in ("earlier", "later"):
                    await self._set_date(script, start)
                elif kind == "unset":
                    await self._acts.unset_config(TENANT, source, None)
                elif kind == "set":
                    await self._acts.set_config(TENANT, source, "KEY", "value")
                elif kind == "pause":
                    await self._acts.pause(TENANT)
                elif kind == "resume":
                    await self._acts.resume(TENANT)
                else:
                    await self._acts.trigger(TENANT, source, None)
            except HarvestdError:
                continue

    async def _set_date(self, script: str, at: datetime) -> None:
        """By SQL, as the specification has it."""
        async with self._line.connection() as connection:
            await connection.execute(
                "UPDATE public.data_source_run SET last_fetched_data_date = $2 WHERE script = $1",
                script,
                at,
            )
