"""The HTTP side as a test sees it: served on a free port, asked through real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from harvestd.service.http import Health, make_app, serve

WITHIN = 10.0


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Served:
    """A server under test, and what ends it."""

    address: str
    host: str
    port: int
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def serving(
    health: Health | None = None, *, app: Starlette | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Served]:
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app or make_app(health or Health()),
            host,
            0,
            on_listening=listening.set_result,
            stop=stop,
        )
    )
    try:
        address = await asyncio.wait_for(asyncio.shield(listening), WITHIN)
        yield Served(address, host, int(address.rpartition(":")[2]), stop, task)
    finally:
        stop.set()
        await asyncio.wait([task], timeout=WITHIN)
        assert task.done()


class Waiting:
    """An application whose answer to ``/`` waits until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.app = Starlette(routes=[Route("/", self._answer)])

    async def _answer(self, _: Request) -> Response:
        self.begun.set()
        await self.go_on.wait()
        return PlainTextResponse("done")


async def ask(server: Served, target: str, method: str = "GET") -> Answer:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    return parsed(await exchange(server, head.encode()))


async def exchange(server: Served, request: bytes) -> bytes:
    """Everything the server sends for ``request`` until it closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), WITHIN)
    finally:
        writer.close()
        await writer.wait_closed()


def parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split(" ")[1]), headers, body)
