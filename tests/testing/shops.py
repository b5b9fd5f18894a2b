"""Data sources for the tests of the kit: one table with a key, one without, any script."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from harvestd.testing import Harvest
from harvestd.testing.server import Server

SCHEMA = """
CREATE TABLE IF NOT EXISTS shop.item (
    tenant_id text NOT NULL,
    id        bigint NOT NULL,
    name      text,
    at        timestamptz,
    CONSTRAINT item_pkey PRIMARY KEY (tenant_id, id)
);
CREATE TABLE IF NOT EXISTS shop.event (
    tenant_id text NOT NULL,
    number    bigint GENERATED ALWAYS AS IDENTITY,
    at        timestamptz NOT NULL
);
"""


def a_shop(
    server: Server, folder: Path, env: Mapping[str, str] | None = None, **scripts: str
) -> Harvest:
    """The data source ``shop`` with these scripts, the text of each indented at will."""
    source = folder / "plugins" / "shop"
    source.mkdir(parents=True)
    (source / "schema.sql").write_text(SCHEMA)
    for name, text in scripts.items():
        (source / f"{name}.py").write_text(dedent(text))
    return Harvest(
        source,
        server,
        tenant_id=f"acme-{secrets.token_hex(4)}",
        env=env or {},
        cache_root=folder / "cache",
    )
