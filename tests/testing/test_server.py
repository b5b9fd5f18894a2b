"""The server of a test session: nothing of it is left, also when the session is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harvestd.testing import server
from tests.clusters import open_folder
from tests.processes import environment

SESSION = """
import sys
from pathlib import Path
from harvestd.testing import server

server.PLACE = Path(sys.argv[1])
with server.running_server() as running:
    print(running._embedded.pid, flush=True)
    sys.stdin.read()
"""


def a_session(folder: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A session under way, and its PostgreSQL."""
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


@pytest.mark.slow
def test_what_a_killed_session_left_is_removed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as folder:
        monkeypatch.setattr(server, "PLACE", folder)
        killed, left = a_session(folder)
        going_on, theirs = a_session(folder)
        killed.kill()
        killed.communicate()
        assert left.is_running()

        monkeypatch.setattr(server, "LEFTOVER_SECONDS", -1.0)
        with server.running_server():
            left.wait(30)
            assert theirs.is_running()
            assert len(os.listdir(folder)) == 2
        going_on.communicate("")
        theirs.wait(30)
        assert os.listdir(folder) == []
