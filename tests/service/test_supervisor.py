"""What systemd hears, over a real datagram socket: ready, reloading, alive, stopping."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.service.supervisor import Supervisor, take_supervisor
from tests.processes import harvestd_run, wait_until


class Manager:
    """The end of the socket that systemd holds."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        """Every message until now, as NAME → value."""
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    async def hears(self, name: str, *, times: int = 1) -> None:
        """Wait until that many messages had ``name``."""

        async def heard() -> bool:
            return sum(name in message for message in self.listen()) >= times

        await wait_until(heard, f"{name} {times} times")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    of_this_test = f"harvestd-{os.getpid()}-{tmp_path.name}"
    address = str(tmp_path / "notify") if request.param == "path" else f"@{of_this_test}"
    found = Manager(address)
    yield found
    found.socket.close()


@pytest.mark.slow
async def test_a_daemon_tells_its_whole_life(
    manager: Manager, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    settings = {"database_url": database_url, "data_dir": tmp_path / "data"}
    async with harvestd_run(**settings) as daemon:
        await manager.hears("READY")
        await manager.hears("WATCHDOG", times=3)
        daemon.process.send_signal(signal.SIGHUP)
        await manager.hears("RELOADING")
        await manager.hears("READY", times=2)
        assert await daemon.stop() == 0
    names = [name for message in manager.listen() for name in message if name != "STATUS"]

    assert [name for name in names if name != "WATCHDOG"] == [
        "READY",
        "RELOADING",
        "MONOTONIC_USEC",
        "READY",
        "STOPPING",
    ]


@pytest.mark.slow
async def test_a_start_without_a_database_says_so_and_asks_for_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
    url = f"postgresql://harvestd:x@127.0.0.1:{nobody.getsockname()[1]}/harvestd"
    try:
        async with harvestd_run(database_url=url, data_dir=tmp_path / "data") as daemon:
            await manager.hears("EXTEND_TIMEOUT_USEC", times=2)
            await daemon.stop()
    finally:
        nobody.close()
    waits = [message for message in manager.listen() if "EXTEND_TIMEOUT_USEC" in message]
    manager.socket.close()

    assert "127.0.0.1" in waits[0]["STATUS"]
    assert not any("READY" in message for message in manager.heard)


def test_a_watchdog_of_another_process_is_not_pinged() -> None:
    ours = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "2000000"}

    assert Supervisor(ours).ping_seconds == 1.0
    assert Supervisor(ours | {"WATCHDOG_PID": str(os.getpid())}).ping_seconds == 1.0
    assert Supervisor(ours | {"WATCHDOG_PID": "1"}).ping_seconds is None
    assert Supervisor({}).ping_seconds is None


def test_children_do_not_inherit_the_socket_and_a_deaf_manager_stops_nothing() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "2000000", "OTHER": "x"}
    supervisor = take_supervisor(environ)
    supervisor.ready()
    supervisor.ping()

    assert environ == {"OTHER": "x"}
