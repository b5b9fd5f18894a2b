"""What some tests need beside the Python packages."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def is_missing(what: str) -> NoReturn:
    """Skip the test and say so; with REQUIRE_TOOLS=1 (CI, where all of it is there) fail it."""
    if os.environ.get("REQUIRE_TOOLS") == "1":
        pytest.fail(what)
    pytest.skip(what)
