"""A token over https: it reaches its own host, when asked, and nobody else.

The upstream is served as files over TLS on this machine; git does the rest for real.
"""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from plugins.data_sources.git import _access, _address, _git, _mirror
from plugins.data_sources.git._reasons import Denied

from tests.plugins.git.world import Upstream, an_upstream, walk

TOKEN = "a-token-that-nobody-else-may-see"

# For localhost and 127.0.0.1, valid for a century, used by this test alone.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaBdyheXajCkWhNF1
+3d9FH6lO7Rir3rqvTNF/piwn46hRANCAASBMmC1ktNIJvr6/EpCdZE4DOr9aWy8
UVzbllhr2hsHNFxO6Zac3jAn8iNIOtNvKsmQeN2wXywsEWn8cYESTwW4
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBozCCAUmgAwIBAgIUJjWnWf6ljPr3vpdk7AFJffteyN4wCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNaGFydmVzdGQgdGVzdDAgFw0yNjExMjUwNjA5NTZaGA8yMTI2
MTEwMTA2MDk1NlowGDEWMBQGA1UEAwwNaGFydmVzdGQgdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABIEyYLWS00gm+vr8SkJ1kTgM6v1pbLxRXNuWWGvaGwc0
XE7plpzeMCfyI0g6028qyZB43bBfLCwRafxxgRJPBbijbzBtMB0GA1UdDgQWBBSs
4Bjjk2euXJLtd10r9DN5cEs3PzAfBgNVHSMEGDAWgBSs4Bjjk2euXJLtd10r9DN5
cEs3PzAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAA
ATAKBggqhkjOPQQDAgNIADBFAiAlvLSxAI40rjeiElYoV2MTzC25LnUwRM9+6VqJ
yJ/JKQIhAKW02VF4HP3/6Jw97CW/cOFzP96CGOKvjrxJc21Sy3oP
-----END CERTIFICATE-----
"""


class Host(ThreadingHTTPServer):
    """Serves a folder to whoever shows the credentials; notes every one that it is shown."""

    def __init__(self, folder: Path, credentials: str, *, moved_to: str = "") -> None:
        super().__init__(("127.0.0.1", 0), partial(Answer, directory=str(folder)))
        self.expected = "Basic " + base64.b64encode(credentials.encode()).decode()
        self.moved_to = moved_to
        self.shown: list[str | None] = []
        certificate = folder.parent / "certificate.pem"
        certificate.write_text(CERTIFICATE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.certificate = certificate
        self.address = f"127.0.0.1:{self.server_port}"


class Answer(SimpleHTTPRequestHandler):
    """One request."""

    server: Host

    def do_GET(self) -> None:
        shown = self.headers["Authorization"]
        self.server.shown.append(shown)
        if self.server.moved_to:
            self.send_response(302)
            self.send_header("Location", self.server.moved_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif shown != self.server.expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = an_upstream(tmp_path / "served" / "a.git")
    upstream.chain(3)
    upstream.git("update-server-info")
    return upstream


@pytest.fixture
def host(upstream: Upstream) -> Iterator[Host]:
    with serving(Host(upstream.path.parent, f"x-access-token:{TOKEN}")) as host:
        yield host


@contextmanager
def serving(host: Host) -> Iterator[Host]:
    """Answer in a thread until the test is over."""
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def meant(
    url: str, cache: Path, host: Host, token: str | None
) -> tuple[_address.Repository, _git.Git]:
    """The repository at ``url`` and the git for it, which trusts the test's certificate."""
    [repository] = _address.parse_repositories(url, local_allowed=False)
    git = _access.git_for(repository, home=_access.prepare(cache, [repository]), token=token)
    trusting = {**git.environment, "GIT_SSL_CAINFO": str(host.certificate)}
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        trusting.pop(proxy, None)
    return repository, replace(git, environment=trusting)


async def test_the_right_token_loads_and_lies_in_no_file(
    tmp_path: Path, upstream: Upstream, host: Host
) -> None:
    cache = tmp_path / "cache"
    repository, git = meant(f"https://{host.address}/a.git", cache, host, TOKEN)

    mirror = await _mirror.open_mirror(repository, git, cache)

    assert set((await walk(mirror)).shas) == upstream.reachable()
    assert host.shown[0] is None  # only when it was asked
    for path in cache.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


async def test_credentials_inside_the_url_load_too_and_leave_it(
    tmp_path: Path, upstream: Upstream, host: Host
) -> None:
    cache = tmp_path / "cache"
    url = f"https://x-access-token:{TOKEN}@{host.address}/a.git"
    repository, git = meant(url, cache, host, None)

    mirror = await _mirror.open_mirror(repository, git, cache)

    assert set((await walk(mirror)).shas) == upstream.reachable()
    assert TOKEN not in repository.url + str(mirror.folder)


@pytest.mark.parametrize("token", [None, "a-wrong-token"])
async def test_a_wrong_or_missing_token_is_denied_and_not_repeated(
    token: str | None, tmp_path: Path, host: Host
) -> None:
    cache = tmp_path / "cache"
    repository, git = meant(f"https://{host.address}/a.git", cache, host, token)

    with pytest.raises(Denied, match=r"denied access; why: .*; next: set GIT_TOKEN") as denied:
        await _mirror.open_mirror(repository, git, cache)

    assert "a-wrong-token" not in str(denied.value)


async def test_a_redirect_to_another_host_does_not_receive_the_token(
    tmp_path: Path, upstream: Upstream, host: Host
) -> None:
    cache = tmp_path / "cache"
    redirecting = Host(upstream.path.parent, "unused", moved_to=f"https://{host.address}")
    with serving(redirecting) as sender:
        repository, git = meant(f"https://{sender.address}/a.git", cache, host, TOKEN)
        with pytest.raises(Denied):
            await _mirror.open_mirror(repository, git, cache)

    assert host.shown
    assert set(host.shown) == {None}


async def test_a_missing_repository_is_told_from_a_wrong_token(tmp_path: Path, host: Host) -> None:
    cache = tmp_path / "cache"
    repository, git = meant(f"https://{host.address}/nowhere.git", cache, host, TOKEN)

    with pytest.raises(_git.GitError, match="there is no repository at"):
        await _mirror.open_mirror(repository, git, cache)
