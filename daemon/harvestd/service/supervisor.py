"""What systemd is told, by the protocol of sd_notify(3): one datagram of NAME=value lines."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

START_MORE_SECONDS = 60
"""By how much a start is prolonged each time that PostgreSQL was not there."""


class Supervisor:
    """The service manager that started this process; without one every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        self.ping_seconds = int(usec) / 2_000_000 if for_us and usec.isdigit() else None
        """How often it wants a sign of life, at least: half of the time it waits; None: never."""

    def ready(self) -> None:
        """The start, or a reload, is over."""
        self._tell(READY="1", STATUS="collecting")

    def starting(self, trouble: str) -> None:
        """The start takes longer, for this reason."""
        self._tell(STATUS=trouble, EXTEND_TIMEOUT_USEC=str(START_MORE_SECONDS * 1_000_000))

    def reloading(self) -> None:
        """SIGHUP arrived; `ready` follows."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(RELOADING="1", MONOTONIC_USEC=str(microseconds))

    def stopping(self) -> None:
        """The drain begins."""
        self._tell(STOPPING="1", STATUS="draining")

    def ping(self) -> None:
        """A sign of life."""
        if self.ping_seconds is not None:
            self._tell(WATCHDOG="1")

    def _tell(self, **said: str) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={value}".replace("\n", " ") for name, value in said.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(text.encode(), address)
        except OSError:
            pass  # it is a courtesy: a service manager that does not listen stops no run


def take_supervisor(environ: MutableMapping[str, str]) -> Supervisor:
    """The supervisor of ``environ``, and its variables taken out: they are not for children."""
    supervisor = Supervisor(environ)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"):
        environ.pop(name, None)
    return supervisor
