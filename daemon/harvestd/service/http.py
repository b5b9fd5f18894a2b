"""What the process answers by HTTP: /metrics, /livez, /readyz; never with database I/O.

An answer is made of what the service wrote down before, so that a probe stays
true and quick while the database is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from harvestd.errors import SettingsError
from harvestd.observing import metrics
from harvestd.observing.redaction import redact

# Enough for a few scrapers and probes; one more takes the place of the one longest idle, so
# that whoever holds many keeps no probe out.
CONNECTIONS_MAX = 64
KEEP_ALIVE_SECONDS = 5
# A connection without a whole request and its answer by then is cut: uvicorn waits for a first
# request without limit.
REQUEST_SECONDS = 10
GRACE_SECONDS = 2
REQUEST_HEAD_BYTES_MAX = 16 * 1024
BACKLOG = 64
REASON_CHARS_MAX = 500
HEADERS = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
]
INDEX = "harvestd: /metrics /livez /readyz\n"


@dataclass(slots=True)
class Health:
    """What /livez and /readyz answer; the service writes it, nobody else."""

    problems: dict[str, str] = field(default_factory=dict)
    """Why the process is not ready, by a short name; ready while empty."""
    alive_until: float = math.inf
    """Until when, by ``clock``, the service is held to be alive without another sign."""
    clock: Callable[[], float] = time.monotonic

    def set_problem(self, name: str, reason: str) -> None:
        """Not ready, for ``reason``, until ``clear(name)``."""
        self.problems[name] = redact(reason, REASON_CHARS_MAX)

    def clear(self, name: str) -> None:
        """The problem called ``name`` is over; nothing happens when there was none."""
        self.problems.pop(name, None)

    def alive_for(self, seconds: float) -> None:
        """A sign of life: without the next one /livez fails after ``seconds``."""
        self.alive_until = self.clock() + seconds

    @property
    def ready(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def alive(self) -> bool:
        """Whether the last sign of life still counts."""
        return self.clock() <= self.alive_until


def make_app(health: Health) -> Starlette:
    """The routes, each for GET and HEAD; everything else is 404 or 405."""

    async def index(_: Request) -> Response:
        return PlainTextResponse(INDEX)

    async def exposition(_: Request) -> Response:
        body, content_type = metrics.exposition()
        return Response(body, headers={"content-type": content_type})

    async def livez(_: Request) -> Response:
        return JSONResponse({"alive": health.alive}, 200 if health.alive else 503)

    async def readyz(_: Request) -> Response:
        answer = {"ready": health.ready, "problems": health.problems}
        return JSONResponse(answer, 200 if health.ready else 503)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", exposition),
            Route("/livez", livez),
            Route("/readyz", readyz),
        ]
    )


async def serve(
    app: Starlette,
    host: str,
    port: int,
    *,
    on_listening: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Answer on ``host``:``port`` (0 takes any free port) until ``stop`` is set.

    ``on_listening`` receives the address, ``http://127.0.0.1:9464``, once connections
    are accepted.  Cancelled or stopped, it leaves neither socket nor connection behind.

    Raises: SettingsError, if nothing can be bound there.
    """
    listener = await listen(host, port)
    server = _Server(_config(app), stop, lambda: on_listening(address_of(listener)))
    try:
        await server.serve(sockets=[listener])
    finally:
        server.abandon()
        listener.close()


async def listen(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening.  Raises: SettingsError, with the next step."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(host, port, error) from None
    for family, kind, protocol, _, address in found:
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            failure = failure or error
            continue
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # Linux lets two processes bind with SO_REUSEADDR and refuses the second only here.
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            failure = failure or error
        else:
            return listener
    raise _refused(host, port, failure)


def address_of(listener: socket.socket) -> str:
    """``http://127.0.0.1:9464``, or ``http://[::1]:9464``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refused(host: str, port: int, error: OSError | None) -> SettingsError:
    next_steps = {
        errno.EADDRINUSE: "stop the process that listens there (is another harvestd running?) or "
        "set HARVESTD_HTTP_ADDRESS to another port; port 0 takes any free one",
        errno.EACCES: "set HARVESTD_HTTP_ADDRESS to a port of 1024 or above",
        errno.EADDRNOTAVAIL: "set HARVESTD_HTTP_ADDRESS to an address of this machine, for "
        "example 127.0.0.1:9464",
    }
    number = (error.errno if error else None) or 0
    return SettingsError(
        f"HARVESTD_HTTP_ADDRESS: cannot listen on {host}:{port}",
        why=(error.strerror if error else None) or "the name has no address",
        next_step=next_steps.get(
            number, "set HARVESTD_HTTP_ADDRESS to HOST:PORT, for example 127.0.0.1:9464"
        ),
    )


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        # Its warnings are about what clients send: anyone near the port could fill the log.
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=HEADERS,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=REQUEST_HEAD_BYTES_MAX,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signals and its ten looks a second at whether it should end."""

    def __init__(
        self, config: uvicorn.Config, stop: asyncio.Event, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.servers = []
        self._stop = stop
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's: uvicorn's handlers would take SIGTERM from it."""
        yield

    async def main_loop(self) -> None:
        """Until the stop event; once a second the Date header is renewed."""
        await self.on_tick(0)
        self._on_started()
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()
            await self.on_tick(0)

    def abandon(self) -> None:
        """Close what ``shutdown`` did not: it is not reached when ``serve`` is cancelled."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Protocol(H11Protocol):
    """HTTP/1.1 with a limit for the time from one answer to the next, and for their number."""

    _deadline: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    """By a clock that never stands still, as the loop's may for a millisecond."""

    @property
    def _dispensable(self) -> tuple[bool, float]:
        """Smaller is sooner given up: those without a request under way, the oldest of them."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return busy, self._idle_since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= CONNECTIONS_MAX:
            others = (other for other in self.connections if isinstance(other, _Protocol))
            min(others, key=lambda other: other._dispensable).give_up()
        super().connection_made(transport)
        self._set_deadline()

    def on_response_complete(self) -> None:
        self._set_deadline()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def give_up(self) -> None:
        """Make room at once: the transport tells of its end only at the loop's next turn."""
        self.connections.discard(self)
        self.transport.abort()

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        self._idle_since = time.monotonic()
