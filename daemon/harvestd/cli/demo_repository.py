"""Which git repository the demo collects: the one asked for, this checkout's, or a seeded one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import harvestd
from harvestd.cli.output import Unknown, plain
from harvestd.errors import HarvestdError

GIT_SECONDS = 60.0
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://|[\w.-]+@[\w.-]+:")
"""A URL, or user@host:path; everything else is a folder."""
SEEDED_COMMITS = 60
SEEDED_DAYS = 40
SEEDED_FROM = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PEOPLE = (
    ("Ada Vale", "ada@example.com", "+0100"),
    ("Bo Lindqvist", "bo@example.com", "-0500"),
    ("Chidi Okafor", "chidi@example.com", "+0530"),
)
ROOMS = ("parser", "planner", "store", "report", "clock")
VERBS = ("Add", "Mend", "Shorten", "Explain", "Test")


def choose_repository(wanted: str | None, folder: Path) -> str:
    """The path or address of the repository to collect.

    ``folder`` is where a seeded one is made if there is no other.  An address is not asked
    whether it answers: the run says it better.

    Raises: Unknown, when ``wanted`` is no repository with a commit, or an address that the data
    source does not admit; HarvestdError without git.
    """
    if shutil.which("git") is None:
        raise HarvestdError(
            "git is not installed",
            why="the demo collects a git repository, with the program git",
            next_step="install git (apt install git, dnf install git, brew install git)",
        )
    if wanted is not None:
        return _address(wanted) if ADDRESS.match(wanted) else str(_asked_for(Path(wanted)))
    for place in (Path.cwd(), Path(harvestd.__file__).resolve().parent):
        found = find_repository(place)
        if found is not None and has_commit(found) and _can_be_stored(found):
            return str(found)
    return str(seed_repository(folder / "repository"))


def _address(wanted: str) -> str:
    """``wanted``, if the data source git may be expected to take it."""
    scheme, separator, rest = wanted.partition("://")
    login = rest.partition("/")[0].rpartition("@")[0]
    if separator and scheme not in ("https", "ssh"):
        raise Unknown(
            f"the demo does not collect by {plain(scheme)}",
            why="the data source git takes https and ssh, which keep code and credentials to "
            "themselves, and folders of this machine",
            next_step="make demo REPO=https://host/path.git, or REPO=/path/to/clone",
        )
    if ":" in login or (login and scheme == "https"):
        raise Unknown(
            "the demo takes no user or password in an address",
            why="everybody who lists processes sees it, and the shell keeps it; it is not "
            "repeated here",
            next_step="clone it and make demo REPO=/path/to/clone; a daemon gets the token by "
            "harvestd config set TENANT git GIT_TOKEN",
        )
    return wanted


def _asked_for(wanted: Path) -> Path:
    path = Path(os.path.abspath(wanted.expanduser()))
    found = find_repository(path) if path.is_dir() else None
    if found is None:
        what = "is not a git repository" if path.exists() else "does not exist"
        raise Unknown(
            f"{path} {what}",
            why="git finds no repository there",
            next_step="name a folder with a clone in it: make demo REPO=/path/to/clone",
        )
    if not has_commit(found):
        raise Unknown(
            f"the repository {found} has no commit",
            why="there is nothing to collect",
            next_step="commit something, or name another: make demo REPO=/path/to/clone",
        )
    if not _can_be_stored(found):
        raise Unknown(
            f"the path {str(found)!r} cannot be kept as a configuration",
            why="it is not UTF-8, or holds control characters",
            next_step="name one in another folder: make demo REPO=/path/to/clone",
        )
    return found


def find_repository(place: Path) -> Path | None:
    """The top folder of the repository around ``place`` (its git folder if it is bare)."""
    top = _git(["rev-parse", "--show-toplevel"], place)
    if top is None or not top.strip():
        top = _git(["rev-parse", "--absolute-git-dir"], place)
    return Path(top.rstrip("\n")) if top and top.strip() else None


def has_commit(repository: Path) -> bool:
    """Whether any branch or tag leads to a commit."""
    return bool((_git(["rev-list", "--all", "--max-count=1"], repository) or "").strip())


def _can_be_stored(path: Path) -> bool:
    try:
        return str(path).encode("utf-8").decode().isprintable()
    except UnicodeEncodeError:
        return False


def seed_repository(folder: Path) -> Path:
    """A small repository, the same wherever it is made: 60 commits of 3 people over 40 days.

    One that was left half made is made anew.
    """
    if has_commit(folder):
        return folder
    making = folder.with_name(folder.name + ".making")
    for leftover in (folder, making):
        shutil.rmtree(leftover, ignore_errors=True)
    making.mkdir(parents=True)
    _git_or_raise(["init", "--quiet"], making)
    _git_or_raise(["symbolic-ref", "HEAD", "refs/heads/main"], making)
    _git_or_raise(["fast-import", "--quiet"], making, given=_history().encode())
    _git_or_raise(["reset", "--quiet", "--hard"], making)
    making.rename(folder)
    return folder


def _history() -> str:
    """The seeded history in the language of git fast-import."""
    lines = []
    for number in range(SEEDED_COMMITS):
        name, email, zone = PEOPLE[number * 7 % len(PEOPLE)]
        room = ROOMS[number * 3 % len(ROOMS)]
        at = SEEDED_FROM + timedelta(days=SEEDED_DAYS) * number / (SEEDED_COMMITS - 1)
        who = f"{name} <{email}> {int(at.timestamp())} {zone}"
        message = f"{VERBS[number % len(VERBS)]} the {room}\n\nStep {number + 1} of the demo.\n"
        content = "".join(f"{room} line {line}\n" for line in range(number % 9 + number // 5 + 1))
        lines += [
            "commit refs/heads/main",
            f"author {who}",
            f"committer {who}",
            f"data {len(message.encode())}",
            message,
            f"M 100644 inline {room}.txt",
            f"data {len(content.encode())}",
            content,
        ]
    return "\n".join(lines) + "\ndone\n"


def _git(arguments: Sequence[str], place: Path) -> str | None:
    """What git answers about ``place``; None when it refuses."""
    try:
        done = _run_git(arguments, place)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def _git_or_raise(arguments: Sequence[str], place: Path, given: bytes = b"") -> None:
    done = _run_git(arguments, place, given)
    if done.returncode != 0:
        raise HarvestdError(
            f"the demo's own repository cannot be made in {place}",
            why=f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}",
            next_step="make demo REPO=/path/to/clone",
        )


def _run_git(
    arguments: Sequence[str], place: Path, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        # Only asked about, never run as: whose folder it is does not matter here.
        ["git", "-c", "safe.directory=*", *arguments],
        cwd=place,
        env=_environment(),
        input=given,
        capture_output=True,
        timeout=GIT_SECONDS,
        check=False,
    )


def _environment() -> Mapping[str, str]:
    """Ours without what points git elsewhere, or at somebody's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
