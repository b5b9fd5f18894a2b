"""The HTTP side, with real sockets and real requests."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harvestd.errors import SettingsError
from harvestd.observing import metrics
from harvestd.service.http import Health, listen, make_app, serve
from tests.service.asking import WITHIN, Waiting, ask, serving


async def test_a_process_without_problems_is_alive_and_ready() -> None:
    async with serving() as server:
        ready, alive = await ask(server, "/readyz"), await ask(server, "/livez")

    assert (ready.status, ready.json) == (200, {"ready": True, "problems": {}})
    assert (alive.status, alive.json) == (200, {"alive": True})


async def test_readyz_says_every_reason_until_the_last_is_cleared() -> None:
    health = Health()
    health.set_problem("database", "cannot reach postgresql://ann:hunter2hunter2@db/x")
    health.set_problem("plugins", "git/commit: syntax error")
    async with serving(health) as server:
        both = await ask(server, "/readyz")
        health.clear("database")
        one = await ask(server, "/readyz")
        health.clear("plugins")
        health.clear("never there")
        none = await ask(server, "/readyz")
        alive = await ask(server, "/livez")

    assert both.status == 503
    assert both.json == {
        "ready": False,
        "problems": {
            "database": "cannot reach postgresql://[redacted]@db/x",
            "plugins": "git/commit: syntax error",
        },
    }
    assert (one.status, one.json) == (
        503,
        {"ready": False, "problems": {"plugins": "git/commit: syntax error"}},
    )
    assert none.status == 200
    assert alive.status == 200


async def test_livez_fails_when_the_last_sign_of_life_is_too_old() -> None:
    now = 100.0
    health = Health(clock=lambda: now)
    health.alive_for(30)
    async with serving(health) as server:
        now = 130.0
        assert (await ask(server, "/livez")).status == 200
        now = 130.1
        late = await ask(server, "/livez")
        health.alive_for(30)
        assert (await ask(server, "/livez")).status == 200

    assert (late.status, late.json) == (503, {"alive": False})


async def test_metrics_are_prometheus_text() -> None:
    metrics.SEATS_IN_USE.set(3)
    async with serving() as server:
        answer = await ask(server, "/metrics")
    metrics.SEATS_IN_USE.set(0)

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nharvestd_seats_in_use 3.0\n" in answer.body


async def test_the_index_is_one_line_that_names_the_others() -> None:
    async with serving() as server:
        answer = await ask(server, "/")

    assert answer.body == b"harvestd: /metrics /livez /readyz\n"


async def test_other_paths_are_not_found_and_other_methods_refused() -> None:
    async with serving() as server:
        for path in ("/metrics/", "/api", "/../etc/passwd", "/%2e%2e/x", "/readyz/x"):
            assert (await ask(server, path)).status in (404, 307), path
        assert (await ask(server, "/api/trigger", "POST")).status == 404
        assert (await ask(server, "/metrics", "POST")).status == 405
        assert (await ask(server, "/livez", "DELETE")).status == 405


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz"])
async def test_head_has_the_headers_and_no_body(path: str) -> None:
    async with serving() as server:
        answer = await ask(server, path, "HEAD")

    assert answer.status == 200
    assert answer.body == b""
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(("path", "status"), [("/readyz", 200), ("/nowhere", 404)])
async def test_every_answer_has_the_protecting_headers_and_names_no_server(
    path: str, status: int
) -> None:
    async with serving() as server:
        answer = await ask(server, path)

    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "date" in answer.headers
    assert "server" not in answer.headers


async def test_an_error_in_a_route_shows_nothing_of_itself() -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError("canary-in-a-route")

    async with serving(app=Starlette(routes=[Route("/", broken)])) as server:
        answer = await ask(server, "/")
        again = await ask(server, "/")

    assert (answer.status, again.status) == (500, 500)
    assert answer.body == b"Internal Server Error"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_port_in_use_is_refused_with_the_next_step() -> None:
    async with serving() as server:
        with pytest.raises(SettingsError) as caught:
            await serve(
                make_app(Health()),
                server.host,
                server.port,
                on_listening=pytest.fail,
                stop=asyncio.Event(),
            )

    assert f"127.0.0.1:{server.port}" in caught.value.what
    assert "in use" in caught.value.why
    assert "port 0 takes any free one" in caught.value.next_step


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_of_elsewhere_is_refused_with_the_next_step(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await listen(host, 0)

    assert host in caught.value.what
    assert caught.value.why
    assert "HARVESTD_HTTP_ADDRESS" in caught.value.next_step


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
async def test_the_address_is_said_once_it_answers(host: str) -> None:
    async with serving(host=host) as server:
        assert server.address.startswith("http://")
        assert (await ask(server, "/livez")).status == 200


async def test_an_ipv6_address_is_written_with_brackets() -> None:
    listener = await listen("::1", 0) if has_ipv6() else None
    if listener is None:
        # Without IPv6 on this machine the refusal is what can be seen.
        with pytest.raises(SettingsError):
            await listen("::1", 0)
        return
    listener.close()
    async with serving(host="::1") as server:
        assert server.address == f"http://[::1]:{server.port}"
        assert (await ask(server, "/livez")).status == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_stop_ends_it_at_once_and_frees_the_port() -> None:
    async with serving() as server:
        _, idle = await asyncio.open_connection(server.host, server.port)
        server.stop.set()
        await asyncio.wait_for(server.task, 1.0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        (await listen(server.host, server.port)).close()
        idle.close()


async def test_stop_lets_an_answer_under_way_finish() -> None:
    waiting = Waiting()
    async with serving(app=waiting.app) as server:
        asking = asyncio.create_task(ask(server, "/"))
        await asyncio.wait_for(waiting.begun.wait(), WITHIN)
        server.stop.set()
        asyncio.get_running_loop().call_later(0.1, waiting.go_on.set)
        answer = await asyncio.wait_for(asking, WITHIN)

    assert answer.body == b"done"


async def test_cancelled_it_leaves_neither_socket_nor_connection() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.task
        with pytest.raises(ConnectionError):
            if not await asyncio.wait_for(reader.read(1), WITHIN):
                raise ConnectionResetError
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        writer.close()


async def test_a_failing_on_listening_frees_the_port() -> None:
    def fail(_: str) -> None:
        raise RuntimeError("no")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RuntimeError, match="no"):
        await serve(make_app(Health()), "127.0.0.1", port, on_listening=fail, stop=asyncio.Event())

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_signals_stay_those_of_the_service() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving():
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    assert during == before
