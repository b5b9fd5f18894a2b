"""docs/plugins.md: every example in it runs, as it is printed."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import indent
from threading import Thread

import pytest

from harvestd import plugin
from harvestd.testing import Harvest
from harvestd.testing.server import Server
from tests.cli.shell import shell
from tests.clusters import open_folder
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\S+)(?: ([^\n]+))?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BODIES = [
    (kind, text) for language, kind, text in BLOCKS if language == "python" and kind != "test"
]
IMPORTS = "from datetime import UTC, datetime, timedelta\n\n"
RUN = "async def run(env, db, tenant_id, start_date, end_date):\n"
TEST = """
import pytest

from harvestd.testing import StandardSuite

pytestmark = pytest.mark.asyncio


@pytest.fixture
def env():
    return {{"SHOP_URL": {url!r}}}


"""


def blocks(language: str, kind: str = "") -> list[str]:
    return [text for found, of, text in BLOCKS if (found, of) == (language, kind)]


class Upstream(BaseHTTPRequestHandler):
    """Two issues a day, and what the walk-through asks for."""

    def do_GET(self) -> None:
        query = self.path.partition("?day=")[2]
        if query:
            day = int(query[-2:])
            page: object = [{"id": day * 2 + n - 2, "title": f"issue {n}"} for n in range(2)]
        else:
            now = datetime.now(UTC).isoformat()
            page = {"items": [{"id": 1, "name": "the first", "changed_at": now}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(page).encode())

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def a_source(folder: Path, **scripts: str) -> Path:
    """The page's source ``shop`` with its tables and these scripts."""
    source = folder / "plugins" / "shop"
    source.mkdir(parents=True)
    (source / "schema.sql").write_text(blocks("sql")[0])
    for name, text in scripts.items():
        (source / f"{name}.py").write_text(text)
    return source


@pytest.mark.parametrize("number", range(len(BODIES)))
async def test_each_example_runs(
    harvestd_server: Server, upstream: str, tmp_path: Path, number: int
) -> None:
    kind, text = BODIES[number]
    script = text if kind == "script" else IMPORTS + RUN + indent(text, "    ")
    harvest = Harvest(
        a_source(tmp_path, main=script),
        harvestd_server,
        tenant_id=f"acme-{secrets.token_hex(4)}",
        env={"SHOP_URL": upstream},
        cache_root=tmp_path / "cache",
    )
    if kind.startswith("raises "):
        with pytest.raises(getattr(plugin, kind.removeprefix("raises "))):
            await harvest.run("main")
    else:
        assert (await harvest.run("main")).outcome == "completed"


@pytest.mark.slow
async def test_the_tests_on_the_page_pass(upstream: str, tmp_path: Path) -> None:
    (script,) = blocks("python", "script")
    folder = a_source(tmp_path, issue=script)
    tests = "\n\n".join(blocks("python", "test"))
    (folder / "test_shop_issue.py").write_text(IMPORTS + TEST.format(url=upstream) + tests)
    done = await shell(f"{shlex.quote(sys.executable)} -m pytest -q {folder}", tmp_path)

    assert done.code == 0, done.out
    assert "10 passed" in done.out


@pytest.mark.slow
async def test_the_way_from_nothing_to_rows_is_as_printed(upstream: str, tmp_path: Path) -> None:
    first, second = blocks("shell")
    python = shlex.quote(sys.executable)
    with open_folder() as data_dir:  # where the server's user may go
        lines = [
            "export HARVESTD_HTTP_ADDRESS=127.0.0.1:0",
            f"export HARVESTD_DATA_DIR={shlex.quote(str(data_dir))}",
            f'harvestd() {{ {python} -m harvestd "$@"; }}',
            f'python() {{ {python} "$@"; }}',
            "set -e",
            first + second.replace("https://api.example.com", upstream),
        ]
        done = await shell("\n".join(lines), tmp_path)

    assert done.code == 0, done.out + done.err
    assert "8 passed" in done.out
    assert "weather.reading: 1 inserted" in done.out
    assert re.search(r"^ *1 +the first +20", done.out, re.MULTILINE), done.out


async def test_the_schema_on_the_page_is_taken(harvestd_server: Server, tmp_path: Path) -> None:
    source = a_source(tmp_path, main=RUN + "    pass\n")
    (source / "schema.sql").write_text(blocks("sql")[1])
    Harvest(source, harvestd_server, tenant_id="acme", env={}, cache_root=tmp_path)


def test_every_call_of_db_has_an_example() -> None:
    examples = "".join(text for _, text in BODIES)
    calls = set(re.findall(r"`(?:await |async with |async for row in )?db\.(\w+)\(", PAGE))
    assert calls >= {"upsert", "copy", "sweep", "checkpoint", "transaction", "stream"}
    assert [call for call in sorted(calls) if f"db.{call}(" not in examples] == []
    assert [name for name in plugin.__all__ if name not in examples] == []
