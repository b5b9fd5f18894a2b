"""`harvestd torture` itself: it catches every planted mutant, and what it found it finds again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.torture.mutants import MUTANTS, Change
from tests.cli.shell import environment, harvestd
from tests.processes import wait_until

MINUTES = 0.33
"""Mutants and the true protocol together; `harvestd torture` alone takes a minute."""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where children make their temporary folders: the server's user gets there too."""
    with tempfile.TemporaryDirectory(prefix="harvestd-test-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        monkeypatch.setenv("TMPDIR", path)
        yield path


async def test_the_true_protocol_holds_and_every_mutant_is_caught_and_found_again(
    folder: str,
) -> None:
    """Again in processes of its own, from what the first one printed."""
    done = await harvestd("torture", "--seed", "1", "--minutes", str(MINUTES), "--json")

    assert done.code == 0, done.out + done.err
    told = done.json
    assert told["violated"] is None and told["void"] is None
    assert [one["name"] for one in told["mutants"] if one["caught"] is None] == []
    assert len(told["mutants"]) == len(MUTANTS)
    assert told["claims"] >= 2 * told["schedules"] > 0

    found = max(told["mutants"], key=lambda one: int(one["schedules"]))
    replay = ("--mutant", found["name"], "--seed", str(found["caught"]["seed"]))
    again = await harvestd("torture", *replay, "--schedules", "1")

    assert again.code == 0, again.out + again.err
    moves = found["caught"]["moves"]
    assert moves[-1] in again.out and f"moves {found['caught']['digest']}" in again.out
    assert again.out.splitlines()[-1] == "1 of 1 mutants caught"
    assert os.listdir(folder) == []


async def test_an_interrupted_torture_leaves_nothing_behind(folder: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harvestd", "torture", "--schedules", "100000"),
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"schedules," not in await process.stderr.readline():
                assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def gone() -> bool:
        return os.listdir(folder) == []

    await wait_until(gone, "the scratch folder is removed")


def test_a_mutant_that_no_longer_fits_its_statement_is_no_silent_success() -> None:
    with pytest.raises(LookupError, match="does not fit"):
        Change("AND this is nowhere").made_in("SELECT 1")
