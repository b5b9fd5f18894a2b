"""A proxy before PostgreSQL that cuts, stalls, resets, delays and counts bytes.

It listens on TCP, where a reset is a real one, and speaks to the server's unix socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

CHUNK_BYTES = 1 << 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Pair:
    """One client's connection and the one to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.swallows = False
        """Whether the next answer of the server is thrown away, and the connection with it."""

    def cut(self, *, reset: bool = False) -> None:
        """End both sides at once; with ``reset`` the client gets a RST instead of an end."""
        if reset and (sock := self.client.get_extra_info("socket")) is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Its attributes are the faults; all are off at first."""

    def __init__(self, sockets: Path) -> None:
        self._upstream = str(sockets / ".s.PGSQL.5432")
        self._tasks: set[asyncio.Task[None]] = set()
        self.pairs: set[Pair] = set()
        self.port = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay_seconds = 0.0
        self.refuses = False
        self.budget_bytes: int | None = None
        """After so many bytes, of all connections and both ways, the one that sent is reset."""
        self.cuts_commit: Literal["before", "after"] | None = None
        """The next COMMIT never arrives, or arrives and its answer does not."""
        self.struck = asyncio.Event()
        """A budget was used up, or a COMMIT cut."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """Every fault off."""
        self.flowing.set()
        self.delay_seconds = 0.0
        self.refuses = False
        self.budget_bytes = None
        self.cuts_commit = None
        self.struck.clear()

    def cut(self, *, reset: bool = False) -> None:
        """End every connection."""
        for pair in list(self.pairs):
            pair.cut(reset=reset)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.refuses:
                return
            answers, server = await asyncio.open_unix_connection(self._upstream)
            pair = Pair(client, server)
            self.pairs.add(pair)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(pair, reader, server, asks=True))
                    group.create_task(self._pump(pair, answers, client, asks=False))
            finally:
                pair.cut()
                self.pairs.discard(pair)
        except* OSError:
            pass  # either side went away
        except* asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            client.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self,
        pair: Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        asks: bool,
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self.flowing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if pair.swallows and not asks:
                raise ConnectionResetError("the answer to COMMIT is lost")
            if asks and self.cuts_commit is not None and b"COMMIT" in data:
                how, self.cuts_commit = self.cuts_commit, None
                self.struck.set()
                if how == "before":
                    raise ConnectionResetError("COMMIT is lost")
                pair.swallows = True
            if self.budget_bytes is not None:
                left, self.budget_bytes = self.budget_bytes, self.budget_bytes - len(data)
                if self.budget_bytes < 0:
                    self.budget_bytes = None
                    self.struck.set()
                    writer.write(data[:left])
                    await writer.drain()
                    pair.cut(reset=True)
                    return
            writer.write(data)
            await writer.drain()
        # Whoever is done has closed: PostgreSQL knows no half-closed connections.
        raise ConnectionResetError("one side closed")
