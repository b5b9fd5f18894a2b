"""Words, help and examples of the command that proves the engine; see `commands.py`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from harvestd.cli.options import WHOLE, Json


def torture(
    *,
    seed: Annotated[
        int, WHOLE, Parameter(help="What decides; equal seeds make equal schedules.")
    ] = 1,
    minutes: Annotated[float, Parameter(help="How long, all in all.")] = 1.0,
    schedules: Annotated[
        int | None,
        WHOLE,
        Parameter(help="So many instead, and no mutants: to replay one that failed."),
    ] = None,
    mutant: Annotated[str | None, Parameter(help="Hunt this mutant alone, to replay it.")] = None,
    json: Json = False,
) -> int:
    """Torture the engine on a PostgreSQL of its own, and say whether its promises held.

    A seed decides, at each SQL step of claim, heartbeat, takeover, bind, write, checkpoint and
    record, which of several replicas goes on, pauses past its lease, dies or loses its connections,
    when the clock jumps, and what an operator changes meanwhile; after every step the database is
    asked for what must hold. First faults are planted in the production statements (mutants), each
    of which must be caught. The configured database is never touched, and nothing is left behind.
    Exit code 1 when a promise was broken, a mutant got through, or too little was claimed to prove
    anything. The JSON is an object with holds, seed, seconds, schedules, steps, claims, faults (by
    kind), void (why, or null), violated (null, or an object with seed, violation, digest and moves)
    and mutants (objects with name, what, schedules, and caught as violated).

    For example:

    ```
    $ harvestd torture
    $ harvestd torture --seed 7 --minutes 30
    $ harvestd torture --seed 4711 --schedules 1
    $ harvestd torture --seed 1 --mutant weak-lock
    ```
    """
    from harvestd.cli import torturing

    asked = torturing.asked_for(seed, minutes, schedules, mutant)
    return torturing.torture(asked, as_json=json)
