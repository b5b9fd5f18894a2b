"""What `harvestd new` writes: a script that works, its table, and a test with an upstream.

Templates for `string.Template`; ``$source`` and ``$script`` are names as of `terms.NAME`, ``$KEY``
the source in capitals.
"""

from __future__ import annotations

SCRIPT = '''\
"""What changed at $source, window by window.

Configuration: ${KEY}_URL, where the API answers, and ${KEY}_TOKEN, what it takes as a bearer token.
"""

import asyncio
import json
from datetime import datetime, timedelta
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from harvestd.plugin import Unauthorised

resources = ["$script"]  # what other scripts name in their `dependencies`
import_window_duration = timedelta(days=1)
plain_keys = ["${KEY}_URL"]  # no secret: shown in logs


async def run(env, db, tenant_id, start_date, end_date):
    """Store what changed in [start_date, end_date)."""
    await db.upsert("$script", changed(env, start_date, end_date), key=["id"])


async def changed(env, start, end):
    """Each row, from page after page.  This is the part to make yours."""
    query = urlencode({"since": start.isoformat(), "until": end.isoformat()})
    url = f"{env['${KEY}_URL']}/$script?{query}"
    while url:
        page = await asyncio.to_thread(get, url, env["${KEY}_TOKEN"])
        for item in page["items"]:
            yield item | {"changed_at": datetime.fromisoformat(item["changed_at"])}
        url = page.get("next")


def get(url, token):
    """The JSON of one page."""
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == 401:
            raise Unauthorised("the API does not take ${KEY}_TOKEN") from None
        raise
'''

SCHEMA = """\
-- The tables of $source.  It runs again whenever it changes, also where they are there already:
-- a new column needs an ALTER TABLE ... ADD COLUMN IF NOT EXISTS below its table, too.

"""

TABLE = """\
CREATE TABLE IF NOT EXISTS $source.$script (
    tenant_id  text NOT NULL,
    id         bigint NOT NULL,
    name       text,
    changed_at timestamptz,
    -- Whatever else the upstream sends.
    raw        jsonb,
    CONSTRAINT ${script}_pkey PRIMARY KEY (tenant_id, id)
);
"""

TEST = '''\
"""$source/$script against an upstream of its own: python -m pytest, and nothing to set up."""

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from harvestd.plugin import Unauthorised
from harvestd.testing import StandardSuite

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 4, tzinfo=UTC)
ITEMS = [
    {"id": n, "name": f"item {n}", "changed_at": (START + timedelta(hours=7 * n)).isoformat()}
    for n in range(10)
]
PAGE_ITEMS = 2


class Upstream(BaseHTTPRequestHandler):
    """The API as its documentation has it: what it answers to which question."""

    def do_GET(self):
        if self.headers["Authorization"] != "Bearer good":
            self.send_error(401)
            return
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        items = [one for one in ITEMS if asked["since"] <= one["changed_at"] < asked["until"]]
        first = int(asked.get("from", 0))
        page = {"items": items[first : first + PAGE_ITEMS]}
        if first + PAGE_ITEMS < len(items):
            bare = self.path.partition("&from=")[0]
            page["next"] = f"http://{self.headers['Host']}{bare}&from={first + PAGE_ITEMS}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(page).encode())

    def log_message(self, *_):
        """Silence."""


@pytest.fixture(scope="module")
def env():
    """The tenant's configuration: where the upstream listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield {"${KEY}_URL": f"http://127.0.0.1:{server.server_port}", "${KEY}_TOKEN": "good"}
        server.shutdown()


@pytest.mark.asyncio
async def test_every_item_becomes_a_row(harvest):
    await harvest.run("$script", START, END)

    rows = await harvest.rows("$script")
    assert [(row["id"], row["name"]) for row in rows] == [(n, f"item {n}") for n in range(10)]


@pytest.mark.asyncio
async def test_a_token_that_is_refused_waits_for_a_better_one(harvest, env):
    with pytest.raises(Unauthorised):
        await harvest.run("$script", START, END, env={**env, "${KEY}_TOKEN": "expired"})


class Test$Name(StandardSuite):
    """Killed, cancelled, disconnected at each write; run twice; beside others; in any order."""

    script = "$script"
    start, end = START, END
'''
