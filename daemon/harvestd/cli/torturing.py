"""`harvestd torture`: the engine under faults that a seed chooses, in a database of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harvestd.cli.names import unknown
from harvestd.cli.output import DONE, FAILED, UsageError, count, lasting, note, print_json
from harvestd.cli.reach import reached
from harvestd.observing.logs import configure
from harvestd.settings import load_settings
from harvestd.torture.lane import Scratch
from harvestd.torture.mutants import MUTANTS
from harvestd.torture.proof import Asked, Hunted, Proof, prove
from harvestd.torture.schedule import Told

MOVES_SHOWN = 60
"""The last moves of a schedule that broke a promise; --json has all."""


def torture(asked: Asked, *, as_json: bool) -> int:
    """Prove what was asked for; the exit code: 1 unless everything held."""
    note("starting a PostgreSQL in a temporary folder; the configured one is left alone")
    with _scratch() as scratch, open(os.devnull, "w", encoding="utf-8") as nowhere:
        # What the engine says under faults is no news here.
        configure(load_settings({}), nowhere)
        proof = prove(scratch, asked, _note_news if as_json else _print_news)
    if as_json:
        print_json(_document(proof))
    else:
        _print(proof)
    return DONE if proof.holds else FAILED


def asked_for(seed: int, minutes: float, schedules: int | None, mutant: str | None) -> Asked:
    """What the options mean.  With ``schedules`` the true protocol alone, with ``mutant`` that one.

    Raises: UsageError, Unknown.
    """
    if not minutes > 0 or (schedules is not None and schedules <= 0):
        raise UsageError(
            "there is nothing to do",
            why="--minutes and --schedules are above zero",
            next_step="harvestd torture --seed 1 --minutes 1",
        )
    seconds = minutes * 60
    if mutant is None:
        return Asked(seed, seconds, schedules, MUTANTS if schedules is None else ())
    known = {one.name: one for one in MUTANTS}
    if mutant not in known:
        raise unknown("mutant", mutant, known)
    return Asked(seed, seconds, schedules, (known[mutant],), true_protocol=False)


@contextmanager
def _scratch() -> Iterator[Scratch]:
    """A server for this process alone, and nothing left of it, also after a signal."""
    folder = Path(tempfile.mkdtemp(prefix="harvestd-torture-"))
    try:
        if os.geteuid() == 0:
            folder.chmod(0o711)  # the server runs as another user, and has to get there
        with reached(load_settings({}, data_dir=folder / "data"), own=False, makes=True) as at:
            assert at.embedded is not None
            yield Scratch(at.url, at.embedded.admin_url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print_news(news: Proof | Hunted) -> None:
    """What became of a mutant is a part of the answer, how far it is is not."""
    if isinstance(news, Hunted):
        print(_hunt(news), flush=True)
    else:
        _note_news(news)


def _note_news(news: Proof | Hunted) -> None:
    """All of it beside the answer."""
    note(_hunt(news) if isinstance(news, Hunted) else f"{_counts(news)} ...")


def _print(proof: Proof) -> None:
    if proof.schedules:
        print(f"{_counts(proof)}, in {lasting(proof.seconds)}")
        faults = (f"{number:,} {kind}" for kind, number in sorted(proof.faults.items()))
        print(f"faults: {', '.join(faults) or 'none'}")
    elif (told := proof.hunted[0].told) is not None:
        _print_schedule(told, f" --mutant {proof.hunted[0].mutant.name}")
    if proof.violated is not None:
        print(f"BROKEN: {proof.violated.violation}")
        _print_schedule(proof.violated, "")
    elif proof.void is not None:
        print(f"VOID: {proof.void}")
    elif proof.schedules:
        print("OK: nothing lost, nothing twice, nobody held for ever")
    if proof.hunted:
        print(f"{proof.caught} of {len(proof.hunted)} mutants caught")


def _print_schedule(told: Told, mutant: str) -> None:
    if len(told.moves) > MOVES_SHOWN:
        print(f"  ... {len(told.moves) - MOVES_SHOWN:,} moves before")
    for move in told.moves[-MOVES_SHOWN:]:
        print(f"  {move}")
    again = f"harvestd torture --seed {told.seed} --schedules 1{mutant}"
    print(f"  moves {told.digest}; again: {again}")


def _counts(proof: Proof) -> str:
    parts = [
        count(proof.schedules, "schedule"),
        count(proof.steps, "step"),
        count(proof.claims, "claim"),
        count(proof.faults.total(), "fault"),
    ]
    return ", ".join(parts)


def _hunt(hunted: Hunted) -> str:
    name, after = hunted.mutant.name, count(hunted.schedules, "schedule")
    if hunted.told is None:
        return f"NOT CAUGHT: {name} within {after}: {hunted.mutant.what}"
    return f"caught: {name} after {after}: {hunted.told.violation}"


def _document(proof: Proof) -> dict[str, Any]:
    return {
        "holds": proof.holds,
        "seed": proof.seed,
        "seconds": proof.seconds,
        "schedules": proof.schedules,
        "steps": proof.steps,
        "claims": proof.claims,
        "faults": proof.faults,
        "void": proof.void,
        "violated": _schedule(proof.violated),
        "mutants": [
            {
                "name": one.mutant.name,
                "what": one.mutant.what,
                "schedules": one.schedules,
                "caught": _schedule(one.told),
            }
            for one in proof.hunted
        ],
    }


def _schedule(told: Told | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "seed": told.seed,
        "violation": told.violation,
        "digest": told.digest,
        "moves": told.moves,
    }
