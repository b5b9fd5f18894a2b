"""What is kept until its transaction: in a file beyond a bound, and whole or refused."""

from __future__ import annotations

import pickle
import resource

import pytest

from harvestd.errors import RunError
from harvestd.loading.spool import MEMORY_BYTES_MAX, Spool


def test_a_disk_that_is_full_at_the_last_bytes_is_told_before_anything_is_sent() -> None:
    first, last = b"x" * MEMORY_BYTES_MAX, b"y" * 100
    room = len(pickle.dumps(first, pickle.HIGHEST_PROTOCOL))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(RunError, match="cannot be kept"), Spool() as kept:
            kept.add(first)
            kept.add(last)
            list(kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
