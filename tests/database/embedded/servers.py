"""Who uses an embedded server, and what it says."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil

from harvestd.database.embedded_postmaster import is_alive
from harvestd.database.pool import closing

CHECKOUT = Path(__file__).parents[3]
# argv: DATA_DIR, own, user number to become first (0: stay).  Says the server's process number,
# then waits until its standard input ends.  All imports come before the change of user, who
# may not be able to read this interpreter's library.
CHILD = """
import os, sys
from pathlib import Path
from harvestd.database.embedded import embedded_server
from harvestd.errors import EmbeddedError
if int(sys.argv[3]):
    os.setgroups([])
    os.setgid(int(sys.argv[4]))
    os.setuid(int(sys.argv[3]))
try:
    with embedded_server(Path(sys.argv[1]), own=sys.argv[2] == "own") as server:
        print(server.pid, server.url, flush=True)
        sys.stdin.read()
except EmbeddedError as error:
    print("refused:", error, flush=True)
"""


@contextmanager
def child(
    data_dir: Path, own: str, *, user: pwd.struct_passwd | None = None, package: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the server of ``data_dir`` until its standard input is closed."""
    numbers = [str(user.pw_uid), str(user.pw_gid)] if user else ["0", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data_dir), own, *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(package),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def child_environment(package: Path | None = None) -> dict[str, str]:
    """Ours, with what a child must be able to import; ``package``: taken before .venv's."""
    paths = [package, CHECKOUT / "daemon", os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in paths if path)}


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    return psutil.Process(int(first_line(process).split()[0]))


def ask(url: str, sql: str, *arguments: object) -> Any:
    """The first value of the first row, asked in a loop of its own."""

    async def fetch() -> Any:
        async with closing(await asyncpg.connect(url, timeout=30)) as connection:
            return await connection.fetchval(sql, *arguments)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, fetch()).result()


def runs(pid: int) -> bool:
    """Whether that process runs; here an ended one may stay a zombie for a while."""
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


def socket_dir_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])
