"""What a failed conversation with an upstream means, read from what git said.

git has one exit code for everything; its words (LC_ALL=C.UTF-8, so English) are stable enough
to tell apart what the tenant, the operator or time has to mend.
"""

from __future__ import annotations

import re
import signal

from . import _address, _git


class Denied(_git.GitError):
    """The upstream does not know our credentials, or they are not enough."""


_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|Permission denied \("
    r"|requested URL returned error: 40[13]|HTTP Basic: Access denied|Invalid username or"
)
_MISSING = re.compile(
    r"[Rr]epository .*not found|returned error: 404|does not appear to be a git repository"
    r"|does not exist"
)
_STRANGE_HOST = re.compile(r"Host key verification failed|REMOTE HOST IDENTIFICATION")
_UNREACHABLE = re.compile(
    r"Could not resolve host|Couldn't connect|[Cc]onnection (refused|reset|timed out)"
    r"|timed out|Failed to connect|unexpectedly closed|early EOF|hung up|HTTP/2 stream"
    r"|TLS connection|SSL_connect|[Oo]peration too slow|No route to host"
    r"|returned error: (5\d\d|429)"
)
_OWNER = re.compile(r"dubious ownership")
_BROKEN = re.compile(r"repository corruption|is corrupt|did not send all necessary|not our ref")
# Ours, not the upstream's own ("remote: ...").
_TOO_LARGE = re.compile(
    r"died of signal 25|File too large|(?<!remote: )fatal: .*([Oo]ut of memory|Cannot allocate)"
)
_NO_ROOM = re.compile(r"(?<!remote: )(?:fatal|error): .*(No space left on device|quota exceeded)")


def is_too_large(error: _git.CommandFailed) -> bool:
    """Whether git met a bound on its files or its memory."""
    return error.status == -signal.SIGXFSZ or bool(_TOO_LARGE.search(error.noise))


def explained(error: _git.CommandFailed, repository: _address.Repository) -> _git.GitError:
    """The error to raise instead of ``error``: Denied, or one that names the next step."""
    noise = error.noise
    if _STRANGE_HOST.search(noise):
        what = f"the host of {repository.url} is not a known one"
        next_step = "add its key to the known_hosts of the daemon's account"
    elif _DENIED.search(noise):
        return Denied(
            f"{repository.url} denied access",
            why=noise,
            next_step="set GIT_TOKEN (https) to a token that may read it, or give the daemon's "
            "account a key (ssh)",
        )
    elif _OWNER.search(noise):
        what = f"git does not trust the owner of {repository.url}"
        next_step = "give the folder to the daemon's account, or name its real path"
    elif _MISSING.search(noise):
        what = f"there is no repository at {repository.url}, or the token may not see it"
        next_step = "correct GIT_REPOSITORIES, or GIT_TOKEN"
    elif _NO_ROOM.search(noise):
        what = f"there is no room for {repository.url}"
        next_step = "make room in HARVESTD_DATA_DIR; what was received of it is removed"
    elif is_too_large(error):
        what = f"{repository.url} is larger than this source loads"
        next_step = "leave it out of GIT_REPOSITORIES"
    elif _BROKEN.search(noise):  # before the upstream's git hung up
        what = f"{repository.url} cannot be read, since objects are damaged or missing there"
        next_step = "nothing to repair if it passes; else run git fsck --full in the upstream"
    elif _UNREACHABLE.search(noise):
        what = f"{repository.url} cannot be reached"
        next_step = "nothing to repair if it passes; else look at the network and the host"
    else:
        what = f"{repository.url} cannot be read"
        next_step = "try git ls-remote with the same address on the daemon's machine"
    return _git.GitError(what, why=str(error), next_step=next_step)
