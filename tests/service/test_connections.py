"""What clients do with their connections: garbage, silence, crowds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from harvestd.service import http
from tests.service.asking import WITHIN, Waiting, ask, exchange, parsed, serving


async def test_garbage_and_endless_heads_are_refused() -> None:
    async with serving() as server:
        assert parsed(await exchange(server, b"\x16\x03\x01 not http\r\n\r\n")).status == 400
        huge = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (http.REQUEST_HEAD_BYTES_MAX + 1)
        assert parsed(await exchange(server, huge)).status == 400
        assert (await ask(server, "/livez")).status == 200


async def test_a_connection_that_sends_no_whole_request_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)
    async with serving() as server:
        for part in (b"", b"GET / HTTP/1.1\r\nHost: "):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(part)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), WITHIN)
            writer.close()


async def test_many_idle_connections_neither_keep_a_probe_out_nor_pile_up() -> None:
    async with serving() as server, asyncio.timeout(http.REQUEST_SECONDS / 2):
        streams = [
            await asyncio.open_connection(server.host, server.port)
            for _ in range(3 * http.CONNECTIONS_MAX)
        ]
        assert (await ask(server, "/livez")).status == 200
        for reader, _ in streams[: 2 * http.CONNECTIONS_MAX]:  # the oldest made room
            with suppress(ConnectionError):
                assert await reader.read() == b""
        reader, writer = streams[-1]
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert parsed(await reader.read()).status == 200
        for _, writer in streams:
            writer.close()


async def test_idle_connections_do_not_cut_a_request_under_way() -> None:
    waiting = Waiting()
    async with serving(app=waiting.app) as server:
        asking = asyncio.create_task(ask(server, "/"))
        await asyncio.wait_for(waiting.begun.wait(), WITHIN)
        idle = [
            await asyncio.open_connection(server.host, server.port)
            for _ in range(http.CONNECTIONS_MAX + 1)
        ]
        with suppress(ConnectionError):
            assert await asyncio.wait_for(idle[0][0].read(), WITHIN) == b""
        waiting.go_on.set()
        assert (await asyncio.wait_for(asking, WITHIN)).body == b"done"
        for _, writer in idle:
            writer.close()


async def test_one_connection_serves_many_requests() -> None:
    async with serving() as server:
        one = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(server, one * 20 + last)).count(b"HTTP/1.1 200") == 21
