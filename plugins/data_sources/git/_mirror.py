"""A bare copy of one upstream repository in the tenant's cache folder, made and kept fresh.

Layout: the upstream's refs lie at ``refs/upstream/<name>`` and its HEAD, detached or not, at
``refs/upstream/HEAD``; so whatever a ref is called upstream (``refs/replace/...``), it means
nothing to the git that reads the mirror, and everything reachable is reachable from ``--all``.

A fetch happens only when the upstream's listing differs from the mirror's own refs.  Writing
is under a flock that the writing git inherits: a git that outlived a killed daemon still holds
it, and whoever holds it may clear away what dead ones left (lock files, half-received packs).
A mirror is made under another name and renamed when it is complete; a damaged one is put aside
and made anew, at most once a run.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import _address, _git, _reasons

LISTING = _git.Limit(seconds=300.0, file_bytes=64 << 20)
"""64 MiB are about 900,000 refs: more would hold up the event loop, and fill our memory."""
FETCH = _git.Limit(
    seconds=6 * 3600.0,
    silent_seconds=600.0,
    file_bytes=50 * _git.GiB,
    memory_bytes=4 * _git.GiB,
)
LOCK_SECONDS = 900.0
"""How long to wait for another process that writes the same mirror."""
LOCK_POLL_SECONDS = 0.1

REFS = "refs/upstream/"
"""Below it lie the upstream's refs, under the names they have there."""


class Damaged(_git.GitError):
    """The mirror cannot be read as it is; ``remake`` makes it anew."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the upstream shows before anything is fetched."""

    default_branch: str | None
    head: str | None
    refs: str
    """Digest of all refs and their objects, comparable with ``Mirror.refs``."""
    object_format: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror as of its last fetch."""

    folder: Path
    git: _git.Git
    default_branch: str | None
    head: str | None
    refs: str
    """Digest of all refs and their objects: equal means that nothing changed."""
    made_at: int | None = None
    """What tells it from one that takes its place."""

    @property
    def shallow(self) -> str:
        """Digest of where history is cut off upstream; empty for a whole history."""
        text = self._shallow_file()
        return hashlib.sha256(text).hexdigest() if text is not None else ""

    @property
    def cut_off(self) -> frozenset[str]:
        """The commits whose parents the upstream lacks."""
        return frozenset((self._shallow_file() or b"").decode("ascii").split())

    def _shallow_file(self) -> bytes | None:
        try:
            return (self.folder / "shallow").read_bytes()
        except FileNotFoundError:
            return None

    async def output(self, *arguments: str, stdin: IO[bytes] | None = None) -> IO[bytes]:
        """What a command that only reads answers, as an unnamed file at its beginning.

        Raises: Damaged, if git could not read the mirror.
        """
        return await _read(self.git, self.folder, arguments, stdin)


async def open_mirror(repository: _address.Repository, git: _git.Git, cache: Path) -> Mirror:
    """Make the mirror of ``repository`` below ``cache``, or bring it up to date.

    Raises: Denied, if the upstream wants other credentials; GitError, naming the next step.
    """
    if repository.is_local and not await asyncio.to_thread(os.path.isdir, repository.url):
        raise _git.GitError(
            f"there is no repository at {repository.url}",
            why="no such folder, or not readable by the daemon",
            next_step="correct the path in GIT_REPOSITORIES, or mount it",
        )
    listing = await _list(repository, git)
    folder = _folder(repository, listing, cache)
    async with _locked(folder.with_suffix(".lock")) as lock:
        await _clear_leftovers(folder)
        if folder.exists():
            try:
                await _update(repository, git, folder, listing, lock)
            except Damaged:
                await _put_aside(folder)
        if not folder.exists():
            await _create(repository, git, folder, listing, lock)
        refs = await _own_refs(git, folder)
        made_at = _made_at(folder)
    return Mirror(folder, git, listing.default_branch, listing.head, refs, made_at)


async def remake(mirror: Mirror, repository: _address.Repository, cache: Path) -> Mirror:
    """Put a damaged mirror aside and clone again, unless another script has.

    Raises: as ``open_mirror``.
    """
    async with _locked(mirror.folder.with_suffix(".lock")):
        if mirror.folder.exists() and _made_at(mirror.folder) == mirror.made_at:
            await _put_aside(mirror.folder)
    return await open_mirror(repository, mirror.git, cache)


async def _list(repository: _address.Repository, git: _git.Git) -> Listing:
    arguments = ["ls-remote", "--symref", "--", repository.url]
    try:
        answer, _ = await git.output(arguments, limit=LISTING)
    except _git.CommandFailed as error:
        raise _reasons.explained(error, repository) from None
    with answer:
        default_branch: str | None = None
        head: str | None = None
        object_format = "sha1"
        digest = hashlib.sha256()
        for line in answer:
            value, _, name = line.rstrip(b"\n").partition(b"\t")
            if value.startswith(b"ref: "):
                if name == b"HEAD":
                    branch = value.removeprefix(b"ref: ").removeprefix(b"refs/heads/")
                    default_branch = branch.decode("utf-8", "replace")
                continue
            if name.endswith(b"^{}"):
                continue
            if name == b"HEAD":
                head = value.decode()
            if len(value) == 64:
                object_format = "sha256"
            digest.update(value + b" " + name + b"\n")
    return Listing(default_branch, head, digest.hexdigest(), object_format)


async def _own_refs(git: _git.Git, folder: Path) -> str:
    """The digest of ``Listing.refs``, of the mirror's own refs.  Raises: Damaged."""
    arguments = ("for-each-ref", "--format=%(objectname) %(refname)", REFS)
    with await _read(git, folder, arguments) as answer:
        digest = hashlib.sha256()
        for line in answer:
            value, _, name = line.partition(b" ")
            digest.update(value + b" " + name.removeprefix(REFS.encode()))
    return digest.hexdigest()


async def _update(
    repository: _address.Repository, git: _git.Git, folder: Path, listing: Listing, lock: int
) -> None:
    """Fetch what is new; raises Damaged where only a new clone helps."""
    is_shallow = (folder / "shallow").exists()
    if not is_shallow and await _own_refs(git, folder) == listing.refs:
        return
    try:
        await _fetch(repository, git, folder, listing, lock)
    except _git.CommandFailed as error:
        # A failed fetch says little about which side is to blame: ask the mirror alone.
        (await _read(git, folder, ("fsck", "--connectivity-only", "--no-dangling"))).close()
        raise _reasons.explained(error, repository) from None
    await _tidy(git, folder, lock)


async def _create(
    repository: _address.Repository, git: _git.Git, folder: Path, listing: Listing, lock: int
) -> None:
    """Clone under another name, then rename: a mirror that has its name is whole."""
    growing = folder.with_suffix(".growing")
    object_format = f"--object-format={listing.object_format}"
    await git.run(
        ["init", "--bare", "--quiet", "--template=", object_format, "--", str(growing)],
        keep=(lock,),
    )
    try:
        await _fetch(repository, git, growing, listing, lock)
    except _git.GitError as error:
        await _put_aside(growing)  # at once: it may be what fills the disk
        if isinstance(error, _git.CommandFailed):
            raise _reasons.explained(error, repository) from None
        raise
    # One file instead of thousands, before anybody has to look through them.
    await git.run([f"--git-dir={growing}", "pack-refs", "--all"], keep=(lock,))
    growing.rename(folder)


async def _fetch(
    repository: _address.Repository, git: _git.Git, folder: Path, listing: Listing, lock: int
) -> None:
    """Raises: CommandFailed, GitError."""
    in_mirror = f"--git-dir={folder}"
    refspecs = [f"+refs/*:{REFS}refs/*"]
    if listing.head is not None:
        refspecs.append(f"+HEAD:{REFS}HEAD")
    else:
        await git.run([in_mirror, "update-ref", "-d", f"{REFS}HEAD"], keep=(lock,))
    whole = ["--unshallow"] if (folder / "shallow").exists() else []
    fetch = ["fetch", "--quiet", "--progress", "--prune", "--no-tags", "--no-write-fetch-head"]
    await git.run(
        [in_mirror, *fetch, "--update-shallow", *whole, "--", repository.url, *refspecs],
        limit=FETCH,
        keep=(lock,),
    )


async def _tidy(git: _git.Git, folder: Path, lock: int) -> None:
    """Let git pack what many small fetches left.  Its failure changes no answer."""
    arguments = [f"--git-dir={folder}", "gc", "--auto", "--quiet"]
    try:
        await git.run(arguments, limit=FETCH, keep=(lock,))
    except _git.CommandFailed as error:
        if error.status < 0:
            raise


async def _read(
    git: _git.Git, folder: Path, arguments: Sequence[str], stdin: IO[bytes] | None = None
) -> IO[bytes]:
    """The answer of a command that only reads the mirror, at its beginning.

    Raises: Damaged; GitError if git was killed or a limit was reached.
    """
    try:
        answer, noise = await git.output([f"--git-dir={folder}", *arguments], stdin=stdin)
    except _git.CommandFailed as error:
        raise damaged(error, folder) from None
    # git passes over a ref file that holds no name, and with it over what it led to.
    if "broken ref" in noise:
        answer.close()
        raise Damaged(f"the mirror {folder.name} has a broken ref", why=noise)
    return answer


def damaged(error: _git.CommandFailed, folder: Path) -> _git.GitError:
    """What a failed reading of the mirror means: Damaged, unless git met a limit of ours."""
    if error.status < 0:
        return error
    if _reasons.is_too_large(error):
        return _git.GitError(
            f"the mirror {folder.name} takes more than git may have",
            why=str(error),
            next_step="leave its repository out of GIT_REPOSITORIES",
        )
    return Damaged(
        f"the mirror {folder.name} is damaged",
        why=str(error),
        next_step="nothing to repair: it is cloned again; if it recurs, run git fsck upstream",
    )


def _made_at(folder: Path) -> int | None:
    """When its configuration was written, in nanoseconds: that is once, at the beginning."""
    try:
        return (folder / "config").stat().st_mtime_ns
    except OSError:
        return None


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Hold the flock on ``path``; its descriptor is for the writing git to inherit.

    It is closed and never unlocked: a git that inherited it goes on holding it until it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_SECONDS
        while not _try_lock(descriptor):
            if loop.time() >= deadline:
                raise _git.GitError(
                    f"the mirror {path.stem} is in use",
                    why=f"another process has been writing it for {LOCK_SECONDS:g} s",
                    next_step="nothing to repair if it ends; else end the git that holds the lock",
                )
            await asyncio.sleep(LOCK_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder(repository: _address.Repository, listing: Listing, cache: Path) -> Path:
    # An upstream made anew with the other kind of names gets another mirror.
    kind = "-sha256" if listing.object_format == "sha256" else ""
    mirrors = cache / "mirrors"
    mirrors.mkdir(mode=0o700, parents=True, exist_ok=True)
    return mirrors / f"{repository.id}{kind}.git"


async def _put_aside(folder: Path) -> None:
    """Take ``folder`` away at once, by name; removing its files may take longer."""
    aside = folder.with_suffix(f".aside-{uuid.uuid4().hex}")
    os.rename(folder, aside)
    await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)


async def _clear_leftovers(folder: Path) -> None:
    """Take away what dead processes left; only under the lock, so nobody alive needs it."""
    if folder.with_suffix(".growing").exists():
        await _put_aside(folder.with_suffix(".growing"))
    for aside in folder.parent.glob(f"{folder.stem}.aside-*"):
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
    # On the loop, since a thread could still remove files after a cancellation gave the lock
    # back; there are few: refs are packed and objects are not looked through.
    for leftover in _lock_files(folder):
        leftover.unlink(missing_ok=True)


def _lock_files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.lock")
    yield from folder.glob("gc.pid")
    yield from folder.glob("refs/**/*.lock")
    yield from folder.glob("objects/info/**/*.lock")
    yield from folder.glob("objects/pack/tmp_*")
