"""The surroundings of every git we start: its configuration file and its environment.

Nothing is inherited but PATH, proxies and certificate stores; the user's and the machine's git
configuration have no influence.  The file lies at ``$HOME/.gitconfig`` of a HOME of ours,
because git before 2.32 knows no GIT_CONFIG_GLOBAL; it holds no secret.

A token goes to its own host alone: git asks the credential helper in our file, which compares
the host that git is talking to (after a redirect, the new one) with the one the token is for,
and reads the token from its environment.  So it is in no argument list and in no file.

ssh uses the keys and known hosts of the daemon's own account: whatever those open, every
tenant can name.  Give that account no keys unless all tenants may use them.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from . import _address, _git

USERNAME = "x-access-token"
"""What goes with a token when the URL names no user: GitHub, GitLab and Gitea take any."""

TOKEN_CHARACTERS_MAX = 4096

INHERITED = (
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)

SSH = (
    "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=20"
    " -oServerAliveInterval=15 -oServerAliveCountMax=4 -oControlMaster=no -oControlPath=none"
    " -oForwardAgent=no -oForwardX11=no -oPermitLocalCommand=no -oClearAllForwardings=yes"
)

# git hands a helper key=value lines and the word get, store or erase.
HELPER = (
    '!f() { test "$1" = get || return 0; p= h=; while read -r line; do case "$line" in'
    ' protocol=https) p=1 ;; "host=$HARVESTD_GIT_HOST") h=1 ;; esac; done;'
    ' test "$p$h" = 11 || return 0;'
    ' printf \'username=%s\\npassword=%s\\n\' "$HARVESTD_GIT_USERNAME" "$HARVESTD_GIT_PASSWORD";'
    " }; f"
)

CONFIGURATION = """\
# Written by harvestd's git data source before each run.
[core]
	hooksPath = /dev/null
	askPass =
	fsmonitor = false
	logAllRefUpdates = false
	bigFileThreshold = 64m
[credential]
	helper =
	helper = {helper}
[fetch]
	recurseSubmodules = false
	showForcedUpdates = false
	writeCommitGraph = false
[gc]
	autoDetach = false
[http]
	followRedirects = initial
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[init]
	defaultRefFormat = files
[maintenance]
	auto = false
[pack]
	threads = 2
[protocol "ext"]
	allow = never
[submodule]
	recurse = false
"""


def prepare(cache: Path, repositories: Iterable[_address.Repository]) -> Path:
    """Write git's configuration file below ``cache``; the folder that is to be HOME comes back.

    It declares exactly the local ones of ``repositories`` safe: git refuses those of another
    user, and ``-c safe.directory`` does not reach upload-pack.
    """
    home = cache / "home"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = CONFIGURATION.format(helper=_quoted(HELPER))
    text += "".join(
        f"[safe]\n\tdirectory = {_quoted(path)}\n"
        for repository in repositories
        if repository.is_local
        for path in _safe_paths(repository.url)
    )
    target = home / ".gitconfig"
    if not target.exists() or target.read_text() != text:
        # Renamed into place: a git of another process never reads half a file.
        with tempfile.NamedTemporaryFile("w", dir=home, delete=False) as file:
            file.write(text)
        os.replace(file.name, target)
    return home


def git_for(repository: _address.Repository, *, home: Path, token: str | None) -> _git.Git:
    """The git for one repository: its own credentials and its own transport alone.

    Raises: GitError, if the token cannot be one.
    """
    token = (token or "").strip()
    if len(token) > TOKEN_CHARACTERS_MAX or not (token.isprintable() and token.isascii()):
        raise _git.GitError(
            "GIT_TOKEN is refused",
            why=f"a token is up to {TOKEN_CHARACTERS_MAX} printable ASCII characters on one line",
            next_step="set it again with harvestd config set",
        )
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment.setdefault("PATH", os.defpath)
    environment |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_ALLOW_PROTOCOL": repository.transport,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_SSH_COMMAND": SSH,
        "GIT_SSH_VARIANT": "ssh",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ADVICE": "0",
    }
    secrets: tuple[str, ...] = ()
    if repository.host and (token or repository.username or repository.password):
        username = repository.username or USERNAME
        password = repository.password or token
        environment |= {
            "HARVESTD_GIT_HOST": repository.host,
            "HARVESTD_GIT_USERNAME": username,
            "HARVESTD_GIT_PASSWORD": password,
        }
        secrets = _spellings(repository.username, password, f"{username}:{password}")
    return _git.Git(environment, secrets)


def _safe_paths(path: str) -> list[str]:
    """The spellings under which git may look for a configured path: itself, ``.git``, real ones.

    A trailing ``/*`` means everything below to newer git, so such a path is left out.
    """
    candidates = [path, f"{path}/.git"]
    candidates += [os.path.realpath(candidate) for candidate in candidates]
    return [each for each in dict.fromkeys(candidates) if not each.endswith("/*")]


def _quoted(text: str) -> str:
    """One value of a git configuration file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _spellings(*secrets: str) -> tuple[str, ...]:
    """Each secret in the forms it could be repeated in, longest first."""
    found: set[str] = set()
    for secret in secrets:
        if len(secret) >= 4:  # shorter ones would blot out words
            found |= {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
    return tuple(sorted(found, key=len, reverse=True))
