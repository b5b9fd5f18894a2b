"""Who owns the embedded PostgreSQL, who uses it, when it stops, and what a crash leaves."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from harvestd.database.embedded import EmbeddedServer, embedded_server
from harvestd.database.embedded_programs import find_server_user
from harvestd.errors import AlreadyOwned
from tests.database.embedded.servers import ask, child, runs, server_of, socket_dir_of


def test_a_second_owner_is_refused_with_the_number_of_the_first(server: EmbeddedServer) -> None:
    with (
        pytest.raises(AlreadyOwned, match=rf"process {os.getpid()} .*kill {os.getpid()}"),
        embedded_server(server.data_dir, own=True),
    ):
        pass
    assert ask(server.url, "SELECT 1") == 1


def test_a_command_uses_the_running_server_and_leaves_it_running(server: EmbeddedServer) -> None:
    with embedded_server(server.data_dir, own=False) as same:
        assert same == server
    assert ask(server.url, "SELECT 1") == 1


def test_the_last_command_to_leave_stops_the_server(home: Path) -> None:
    with child(home, "use") as other:
        postmaster = server_of(other)
        with embedded_server(home, own=False) as server:
            assert server.pid == postmaster.pid
        assert runs(postmaster.pid)
        other.communicate(timeout=30)

    assert other.returncode == 0
    assert not runs(postmaster.pid)
    assert not socket_dir_of(server.url).exists()


def test_an_owner_that_leaves_first_leaves_the_server_to_the_others(home: Path) -> None:
    with embedded_server(home, own=False) as server:
        with child(home, "own") as owner:
            assert server_of(owner).pid == server.pid
            owner.communicate(timeout=30)
        assert owner.returncode == 0
        assert ask(server.url, "SELECT 1") == 1
    assert not runs(server.pid)


def test_kill_9_of_the_owner_leaves_a_server_that_the_next_owner_adopts(home: Path) -> None:
    with child(home, "own") as owner:
        postmaster = server_of(owner)
        assert os.getsid(postmaster.pid) != os.getsid(owner.pid)  # so Ctrl-C misses it, too
        with pytest.raises(AlreadyOwned, match=str(owner.pid)), embedded_server(home, own=True):
            pass
        owner.kill()
        owner.wait(timeout=30)

    assert runs(postmaster.pid)
    with embedded_server(home, own=True) as adopted:
        assert adopted.pid == postmaster.pid
        assert ask(adopted.url, "SELECT 1") == 1
    assert not runs(postmaster.pid)


def test_commands_that_come_and_go_at_once_never_fail_and_leave_nothing(home: Path) -> None:
    def come_and_go(own: bool) -> set[int]:
        seen = set()
        for _ in range(4):
            with embedded_server(home, own=own) as server:
                assert ask(server.url, "SELECT 1") == 1
                seen.add(server.pid)
        return seen

    with ThreadPoolExecutor(6) as threads:
        seen = set().union(*threads.map(come_and_go, [True, *[False] * 5]))

    assert not any(runs(pid) for pid in seen)


async def test_committed_rows_survive_kill_9_of_the_server_itself(home: Path) -> None:
    with embedded_server(home, own=True) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE committed AS SELECT 1 AS n")
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(server.pid, signal.SIGKILL)
    connection.terminate()
    assert (home / "pgdata" / "postmaster.pid").exists()

    with embedded_server(home, own=True) as again:
        assert again.pid != server.pid
        assert not runs(backend)  # it was waited for, or two servers would share the files
        assert ask(again.url, "SELECT n FROM committed") == 1
        ask(again.url, "DROP TABLE committed")


def test_a_command_restarts_a_killed_server_under_its_living_owner(home: Path) -> None:
    with embedded_server(home, own=True) as server:
        os.kill(server.pid, signal.SIGKILL)
        with embedded_server(home, own=False) as again:
            assert again.pid != server.pid
        assert ask(server.url, "SELECT 1") == 1


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_obstacle(home: Path) -> None:
    options = find_server_user().child_options
    pid_file = home / "pgdata" / "postmaster.pid"
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", **options) as stranger:
        for text in (f"{stranger.pid}\n{home / 'pgdata'}\n0\n5432\n/nowhere\n\n1 1\nready\n", ""):
            pid_file.write_text(text)
            with embedded_server(home, own=True) as server:
                assert server.pid != stranger.pid
        assert stranger.poll() is None
        stranger.kill()
