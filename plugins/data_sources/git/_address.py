"""Which repositories a tenant means: GIT_REPOSITORIES, checked before git is started.

Admitted are ``https://host/path``, ``ssh://user@host/path``, ``user@host:path`` and, where the
operator allows it, an absolute path or ``file:///path`` of this machine.  Anything else is
refused here with the reason: git itself would run a program for ``ext::``, read a descriptor
for ``fd::`` and take ``--upload-pack=...`` for an option.

A user and password inside an https URL are taken out: they become what git's credential
helper answers (``_git.py``) and are in no row, no argument list and no error.
"""

from __future__ import annotations

import hashlib
import os.path
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from . import _git

REPOSITORIES_MAX = 1000
URL_CHARACTERS_MAX = 2000
TEXT_CHARACTERS_MAX = 100_000
"""shlex takes time by the square of a word: a megabyte would hold the event loop for seconds."""

_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TRANSPORT = re.compile(r"[A-Za-z0-9+.-]+::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HALF_SCHEME = re.compile(r"(file|https?|ssh):", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]")
_SCP_LIKE = re.compile(r"(?:([^/@:\s]+)@)?([^/@:\s\[]+|\[[0-9A-Fa-f:.]+\]):(?!/?/?$)(\S+)")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Repository:
    """One upstream repository: its ``url`` without credentials, and who we are there."""

    url: str
    host: str = ""
    """``host[:port]`` as git's credential protocol spells it; empty for local paths and ssh."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """A stable name: half of the SHA-256 of the url, in hexadecimal."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]

    @property
    def is_local(self) -> bool:
        """Whether the url is a path of this machine."""
        return self.url.startswith("/")

    @property
    def server(self) -> str:
        """Who answers for it, such as ``git@example.org``; empty for local paths."""
        if _SCHEME.match(self.url) is None and (scp_like := _SCP_LIKE.fullmatch(self.url)):
            return self.url[: scp_like.start(3) - 1]
        return urlsplit(self.url).netloc

    @property
    def transport(self) -> str:
        """What git calls the way to it: ``https``, ``ssh`` or ``file``."""
        if self.is_local:
            return "file"
        return "https" if self.host else "ssh"


def parse_repositories(text: str, *, local_allowed: bool) -> list[Repository]:
    """Split GIT_REPOSITORIES like a shell line; each repository once, in the order given.

    Raises: GitError, for the first address that is not admitted; the others are not tried.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise _git.GitError(
            f"GIT_REPOSITORIES has {len(text):,} characters",
            why=f"up to {TEXT_CHARACTERS_MAX:,} are admitted",
            next_step="set it to one or more URLs, separated by spaces",
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _git.GitError(
            "GIT_REPOSITORIES cannot be split into addresses",
            why=str(error),
            next_step="quote an address with spaces like a word of a shell line",
        ) from None
    if not 1 <= len(words) <= REPOSITORIES_MAX:
        raise _git.GitError(
            f"GIT_REPOSITORIES holds {len(words)} addresses",
            why=f"1 to {REPOSITORIES_MAX} are admitted",
            next_step="set it to one or more URLs, separated by spaces",
        )
    found: dict[str, Repository] = {}
    for number, word in enumerate(words, start=1):
        repository = _parse(word, number, local_allowed=local_allowed)
        found.setdefault(repository.url, repository)
    return list(found.values())


def _parse(text: str, number: int, *, local_allowed: bool) -> Repository:
    if _NOT_PRINTABLE.search(text) or not text or len(text) > URL_CHARACTERS_MAX:
        raise _refused(number, "it is empty, too long, or holds control characters")
    if text.startswith("-"):
        raise _refused(number, "it starts with '-', which git would take for an option")
    if transport := _TRANSPORT.match(text):
        raise _refused(number, f"the transport {transport[0]} is not admitted")
    if scheme := _SCHEME.match(text):
        return _parse_url(text, scheme[1].lower(), number, local_allowed=local_allowed)
    if half := _HALF_SCHEME.match(text):
        raise _refused(number, f"{half[0]} without // would be a host of that name to ssh")
    if text.startswith("/"):
        return _local(text, number, local_allowed=local_allowed)
    if scp_like := _SCP_LIKE.fullmatch(text):
        user, host, path = scp_like[1], scp_like[2], scp_like[3]
        bare_host = host.strip("[]")
        if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)) or path[0] == "-":
            raise _refused(number, "its user, host or path is not one that ssh could mean")
        name = f"[{bare_host.lower()}]" if ":" in bare_host else host.lower()
        return Repository(url=f"{user + '@' if user else ''}{name}:{path.rstrip('/')}")
    raise _refused(number, "it is neither a URL nor an absolute path")


def _parse_url(text: str, scheme: str, number: int, *, local_allowed: bool) -> Repository:
    if scheme == "file":
        rest = text[len("file://") :]
        return _local(unquote(rest), number, local_allowed=local_allowed)
    # A line end in a user, password or host would be another line of the credential protocol.
    if _NOT_PRINTABLE.search(unquote(text)):
        raise _refused(number, "it holds control characters, such as %00 or %0A")
    if scheme == "http":
        raise _refused(number, "http sends code and credentials in clear; use https")
    if scheme not in ("https", "ssh"):
        raise _refused(number, f"the transport {scheme} is not admitted; use https or ssh")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refused(number, "its host or port cannot be read") from None
    if re.search(r"\s", text) or parts.query or parts.fragment or text[-1] in "?#":
        raise _refused(number, "it holds a space, a query or a fragment")
    path = parts.path.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    if port is not None:
        host = host.rpartition(":")[0]
    host = host.rstrip(":").lower()
    if not _HOST.fullmatch(host) or not path.startswith("/"):
        raise _refused(number, "it lacks a host or a path")
    if port is not None and port != {"https": 443, "ssh": 22}[scheme]:
        host = f"{host}:{port}"
    if scheme == "ssh":
        return _over_ssh(parts, host, path, number)
    return Repository(
        url=f"https://{host}{path}",
        host=host,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def _over_ssh(parts: SplitResult, host: str, path: str, number: int) -> Repository:
    if parts.password:
        raise _refused(number, "ssh takes no password from a URL; it uses keys")
    user = unquote(parts.username or "")
    if user and not _USER.fullmatch(user):
        raise _refused(number, "its user is not one that ssh could mean")
    return Repository(url=f"ssh://{user + '@' if user else ''}{host}{path}")


def _local(path: str, number: int, *, local_allowed: bool) -> Repository:
    if not local_allowed:
        raise _refused(
            number,
            "it is a path of the daemon's machine",
            next_step="use https or ssh, or let the operator set "
            "HARVESTD_ALLOW_LOCAL_REPOSITORIES=1",
        )
    if _NOT_PRINTABLE.search(path) or not path.startswith("/"):
        raise _refused(number, "a local path must be absolute and printable")
    # "//x" is its own root for POSIX, and normpath keeps it so.
    return Repository(url="/" + os.path.normpath(path).lstrip("/"))


def refuse_below(folder: Path, repositories: Iterable[Repository]) -> None:
    """Raise GitError when a local repository lies in ``folder``, which is harvestd's own."""
    own = os.path.realpath(folder)
    for number, repository in enumerate(repositories, start=1):
        if (
            repository.is_local
            and os.path.commonpath([own, os.path.realpath(repository.url)]) == own
        ):
            raise _refused(number, "it lies in harvestd's own cache")


def _refused(number: int, why: str, *, next_step: str = "") -> _git.GitError:
    # The address itself is not quoted: what is malformed may hold a password anywhere.
    return _git.GitError(
        f"address {number} of GIT_REPOSITORIES is refused",
        why=why,
        next_step=next_step or "correct it with harvestd config set",
    )
