"""The log of the suite, as it was before a test looked at its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from harvestd.observing import lines, logs


@pytest.fixture(autouse=True)
def _log_of_the_suite() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, logs.LibraryHandler)]:
        root.removeHandler(handler)
    logs._install(logging.WARNING, lines.to_console(colors=False), lines.Lines(None))
