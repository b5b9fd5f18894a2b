"""What `harvestd new` writes: a script that works, its table, and a test with an upstream.

``$schema`` is the source as PostgreSQL takes it for a schema, in quotes if it is a word of SQL.

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
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from harvestd.plugin import Unauthorised, Wait

resources = ["$script"]  # what other scripts name in their `dependencies`
import_window_duration = timedelta(days=1)
plain_keys = ["${KEY}_URL"]  # no secret: shown in logs


async def run(env, db, tenant_id, start_date, end_date):
    """Store what changed in [start_date, end_date)."""
    await db.upsert("$script", changed(env, start_date, end_date), key=["id"])


async def changed(env, start, end):
    """Each row, from page after page.  This is the part to make yours."""
    asked = {"since": start.isoformat(), "until": end.isoformat()}
    while True:
        url = f"{env['${KEY}_URL']}/$script?{urlencode(asked)}"
        # In a thread: whoever blocks here blocks all tenants.
        page = await asyncio.to_thread(get, url, env["${KEY}_TOKEN"])
        for item in page["items"]:
            yield item | {"changed_at": datetime.fromisoformat(item["changed_at"])}
        if "next" not in page:
            break
        asked["page"] = page["next"]


class NoRedirects(HTTPRedirectHandler):
    """Another host would be given the token."""

    def redirect_request(self, *_):
        return None


def get(url, token):
    """The JSON of one page."""
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with build_opener(NoRedirects).open(request, timeout=30) as answer:
            return json.load(answer)
    except HTTPError as error:
        if error.code == 401:
            raise Unauthorised("the API does not take ${KEY}_TOKEN") from None
        if error.code == 429:
            raise Wait(datetime.now(UTC) + timedelta(minutes=1), "rate limit") from None
        raise
'''

SCHEMA = """\
-- The tables of $source.  It runs again whenever it changes, also where they are there already:
-- a new column needs an ALTER TABLE ... ADD COLUMN IF NOT EXISTS below its table, too.

"""

TABLE = """\
CREATE TABLE IF NOT EXISTS $schema.$script (
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
PAGE_ITEMS = 2


def items_of(customer):
    """What a customer has there; another has other items."""
    return [
        {
            "id": n,
            "name": f"{customer} {n}",
            "changed_at": (START + timedelta(hours=7 * n)).isoformat(),
        }
        for n in range(10)
    ]


ITEMS = {"Bearer good": items_of("item"), "Bearer other": items_of("thing")}


class Upstream(BaseHTTPRequestHandler):
    """The API as its documentation has it: what it answers to which question."""

    def do_GET(self):
        whose = ITEMS.get(self.headers["Authorization"])
        if whose is None:
            self.send_error(401)
            return
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
        moment = datetime.fromisoformat
        items = [one for one in whose if since <= moment(one["changed_at"]) < until]
        first = int(asked.get("page", 0))
        page = {"items": items[first : first + PAGE_ITEMS]}
        if first + PAGE_ITEMS < len(items):
            page["next"] = str(first + PAGE_ITEMS)
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


@pytest.fixture
def other_env(env):
    """Another tenant's, whose rows must not be mixed up with the first one's."""
    return {**env, "${KEY}_TOKEN": "other"}


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

# PostgreSQL takes no schema of these names without quotes (its appendix C, reserved).
RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date
    current_role current_schema current_time current_timestamp current_user default deferrable desc
    distinct do else end except false fetch for foreign freeze from full grant group having ilike in
    initially inner intersect into is isnull join lateral leading left like limit localtime
    localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
    references returning right select session_user similar some symmetric system_user table
    tablesample then to trailing true union unique user using variadic verbose when where window
    with
    """.split()  # noqa: SIM905 - a line for each word would be a page
)
