"""Why a run does not go on, in words: the same in `status`, in `run --once` and in the demo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from harvestd.cli.output import minute
from harvestd.errors import HarvestdError
from harvestd.service.status import GapSeen, RunReported, RunSeen

Run = RunSeen | RunReported
# What the runner keeps of an error: perhaps its class, then what, why and the next step.
KEPT = re.compile(
    r"(?P<what>.*?)(?:; why: (?P<why>.*?))?(?:; next: (?P<next>.*))?", re.DOTALL | re.ASCII
)
MODULE = re.compile(r"(?:\w+\.)+(?P<name>\w+): ", re.ASCII)
HOLDER_DIED = "holder_died"
IN_THE_LOG = "the daemon's log has the place in the code (event script_failed)"


def word_of(run: Run | GapSeen) -> str:
    """The one word for how a run stands, in tables and in JSON."""
    if isinstance(run, RunSeen) and run.retired:
        return "RETIRED"
    return "BLOCKED" if run.blocked_by else run.status


def as_json(run: Run) -> Mapping[str, object]:
    """A run as an object, with the word that the table shows."""
    return {one.name: getattr(run, one.name) for one in fields(run)} | {"status": word_of(run)}


def reason_of(run: Run) -> HarvestdError | None:
    """What keeps a run from going on, as it would be said of a command; None when nothing does."""
    match word_of(run):
        case "BLOCKED":
            return blocked(run.blocked_by or "")
        case "FAILED":
            return _failure(run.error or run.reason or "it failed without a word")
        case "PENDING" if run.reason == HOLDER_DIED:
            return HarvestdError(
                "the process that ran it died, and what it had committed is kept",
                why="it was killed, or this script ends or blocks it",
                next_step="nothing: it goes on by itself, alone among such runs for its first 5 s, "
                "so the last of many waits for the others; the third death in a row stops it",
            )
        case "WAITING":
            return _wait(run)
        case _:
            return None


def blocked(by: str) -> HarvestdError:
    """``by`` is the name of a run, or says by itself what is missing."""
    if " " in by:
        return as_told(by)
    return HarvestdError(f"needs {by}, and goes on by itself once that completes")


def as_told(kept: str) -> HarvestdError:
    """An error as it was before it became one line of text."""
    found = KEPT.fullmatch(kept)
    assert found is not None
    return HarvestdError(found["what"], why=found["why"] or "", next_step=found["next"] or "")


def _wait(run: Run) -> HarvestdError:
    """What a run waits for; one that may try again at once needs no next step."""
    told = as_told(run.reason or "no reason was given")
    if run.waits_until is not None:
        told.next_step = told.next_step or f"nothing: it goes on after {minute(run.waits_until)}"
    elif not isinstance(run, RunSeen) or run.due_seconds > 0:
        told.next_step = told.next_step or (
            f"harvestd config set TENANT {run.data_source} KEY, with what is missing, lets it go "
            "on at once; it also asks again every hour"
        )
    return told


def _failure(kept: str) -> HarvestdError:
    """The error of a script: in full where it was written for people, else with its class."""
    told = as_told(kept)
    if (module := MODULE.match(told.what)) is not None:
        told.what = told.what[module.end() if told.why else module.start("name") :]
    told.next_step = told.next_step or IN_THE_LOG
    return told
