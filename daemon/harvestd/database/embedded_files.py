"""What the embedded PostgreSQL keeps on disk: its folders, its passwords, its socket."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harvestd.database.embedded_programs import MAJOR, ServerUser, find_server_user, name_of
from harvestd.errors import EmbeddedError

# /run is root's alone, so nobody can put a folder there first; /tmp is there for everyone.
# Not XDG_RUNTIME_DIR: it vanishes at logout, under a daemon that goes on.
ROOTS_SOCKETS = Path("/run")
ANYONES_SOCKETS = Path("/tmp")  # noqa: S108 (owner and mode are checked on each use)
SOCKET = ".s.PGSQL.5432"
LOG_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies under one DATA_DIR (``folder``, absolute and resolved)."""

    folder: Path
    user: ServerUser

    @property
    def pgdata(self) -> Path:
        """The server's own folder; the only one that its user may write."""
        return self.folder / "pgdata"

    @property
    def secrets(self) -> Path:
        """Both passwords, 0600, for harvestd alone."""
        return self.folder / "postgresql.secrets"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "postgresql.log"

    @property
    def hba(self) -> Path:
        """Who may log in; outside ``pgdata``, so that the server cannot change it."""
        return self.folder / "pg_hba.conf"


@dataclass(frozen=True, slots=True, repr=False)
class Passwords:
    """Of the roles ``postgres`` (superuser) and ``harvestd`` (the daemon's)."""

    postgres: str
    harvestd: str


def lay_out(data_dir: Path) -> Layout:
    """Make DATA_DIR if it is missing, and say where everything in it lies.

    Raises: EmbeddedError, also when the folder holds another user's server; OSError.
    """
    folder = data_dir.expanduser().resolve()
    if "\n" in str(folder):
        raise EmbeddedError(
            "DATA_DIR has a line break in its path",
            why="PostgreSQL writes the path into a file of lines",
            next_step="HARVESTD_DATA_DIR=/another/folder",
        )
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        # Only what we made ourselves is opened for traversal, never a folder found here.
        if os.geteuid() == 0:
            path.chmod(0o711 if path == folder else 0o755)
        elif path == folder:
            path.chmod(0o700)
    layout = Layout(folder, find_server_user())
    refuse_foreign_server(layout)
    return layout


def refuse_foreign_server(layout: Layout) -> None:
    """Raise EmbeddedError when ``pgdata`` is another user's, or another major version's."""
    if not layout.pgdata.exists():
        return
    owner = layout.pgdata.stat().st_uid
    # Root may take over what lies in a folder of its own: in a container that was built
    # anew, the system user often has another number.
    roots_own = os.geteuid() == 0 and layout.folder.stat().st_uid == 0
    if owner != layout.user.uid and not roots_own:
        raise EmbeddedError(
            f"{layout.pgdata} belongs to user {name_of(owner)}",
            why=f"PostgreSQL only runs as the owner of its files, here that is not "
            f"{layout.user.name}",
            next_step=f"run harvestd as {name_of(owner)}, or HARVESTD_DATA_DIR=/another/folder",
        )
    version_file = layout.pgdata / "PG_VERSION"
    found = version_file.read_text().strip() if version_file.exists() else "unknown"
    if found != MAJOR:
        raise EmbeddedError(
            f"{layout.pgdata} was made by PostgreSQL {found}, this harvestd has {MAJOR}",
            why="the files of one major version cannot be read by another",
            next_step="dump it with the harvestd that made it and load it into a fresh "
            "HARVESTD_DATA_DIR; nothing was changed",
        )


def read_passwords(layout: Layout) -> Passwords | None:
    """The passwords that were kept, or None where there are none yet.

    Raises: EmbeddedError, when others may read the file or it is damaged.
    """
    try:
        mode = layout.secrets.stat().st_mode
        text = layout.secrets.read_text()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise EmbeddedError(
            f"{layout.secrets} can be read by others (mode {stat.S_IMODE(mode):04o})",
            why="it holds the passwords of the embedded PostgreSQL",
            next_step=f"chmod 600 {layout.secrets}; if somebody may have read it, remove it "
            "while nothing runs: the next start sets fresh passwords",
        )
    try:
        kept = json.loads(text)
        return Passwords(postgres=str(kept["postgres"]), harvestd=str(kept["harvestd"]))
    except (ValueError, KeyError, TypeError):
        raise EmbeddedError(
            f"{layout.secrets} is damaged",
            why="it does not hold the two passwords as JSON",
            next_step="remove it while nothing runs: the next start sets fresh passwords",
        ) from None


def make_passwords() -> Passwords:
    """Two random ones."""
    return Passwords(postgres=secrets.token_urlsafe(32), harvestd=secrets.token_urlsafe(32))


def keep_passwords(layout: Layout, passwords: Passwords) -> None:
    """Write them for :func:`read_passwords`; complete or not at all, even after a crash."""
    kept = {"postgres": passwords.postgres, "harvestd": passwords.harvestd}
    write_whole(layout.secrets, json.dumps(kept) + "\n", mode=0o600)


def write_whole(path: Path, text: str, *, mode: int) -> None:
    """Replace the file by ``text``; after a crash it has the old text or all of this one."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)


def give_to_user(layout: Layout) -> None:
    """As root: make ``pgdata`` the server user's where its number has changed since."""
    if layout.pgdata.stat().st_uid == layout.user.uid:
        return
    for folder, _, names in os.walk(layout.pgdata):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, layout.user.uid, layout.user.gid, follow_symlinks=False)


def open_log(layout: Layout) -> int:
    """A descriptor that appends to the log; what has grown too long is put aside first."""
    if layout.log.exists() and layout.log.stat().st_size > LOG_BYTES_MAX:
        layout.log.replace(layout.log.with_name(layout.log.name + ".1"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.open(layout.log, flags, 0o600)


def make_socket_dir(layout: Layout) -> Path:
    """The empty folder, 0700 and the server user's, for the socket of a server to be started.

    Short and plain whatever DATA_DIR is called: a socket's path has at most 107 bytes.

    Raises: EmbeddedError, when somebody else made it first.
    """
    # The inode tells apart two folders of the same path, as containers that share /tmp have.
    identity = f"{layout.folder}:{layout.folder.stat().st_ino}"
    name = f"harvestd-{layout.user.uid}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]}"
    root = os.geteuid() == 0
    parent = ROOTS_SOCKETS if root and os.access(ROOTS_SOCKETS, os.W_OK) else ANYONES_SOCKETS
    folder = parent / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if root and folder.lstat().st_uid == 0:
        os.chown(folder, layout.user.uid, layout.user.gid, follow_symlinks=False)
    refuse_foreign_sockets(folder, layout.user)
    for left in (folder / SOCKET, folder / f"{SOCKET}.lock"):
        left.unlink(missing_ok=True)
    return folder


def refuse_foreign_sockets(folder: Path, user: ServerUser) -> None:
    """Raise EmbeddedError unless only ``user`` can put a socket into ``folder``."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        raise EmbeddedError(
            f"the folder of the server's socket is gone: {folder}",
            why="something removed it under the running server, or this process sees another "
            "/tmp (a service with PrivateTmp=yes does)",
            next_step="stop the harvestd that uses the server and start it again",
        ) from None
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != user.uid:
        raise EmbeddedError(
            f"{folder} is not ours: {stat.filemode(found.st_mode)} {name_of(found.st_uid)}",
            why=f"it must be a folder of {user.name}, mode 0700, or another user could put "
            "a server of its own there",
            next_step=f"find out who made it, remove it (rm -r {folder}) and start again",
        )
