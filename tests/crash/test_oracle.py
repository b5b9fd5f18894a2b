"""The judge of the chaos finds what it is there to find."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from asyncpg import Range

from tests.crash.oracle import loaded_wrongly
from tests.crash.sources.chaos import _upstream

BEGAN = _upstream.EPOCH + timedelta(days=1)
ENDED = BEGAN + timedelta(seconds=1)
FIRST = 864_000


def loaded(**differently: Any) -> dict[str, Any]:
    """One run and its rows as the oracle reads them, all right but for what is given."""
    right = {
        "tenant_id": "acme",
        "script": "append",
        "covered": [Range(BEGAN, ENDED)],
        "origin": BEGAN,
        "n": 10,
        "distinct_n": 10,
        "low": FIRST,
        "high": FIRST + 9,
        "wrong": 0,
    }
    return right | differently


def test_rows_that_equal_the_upstream_s_truth_are_nothing_to_report() -> None:
    assert list(loaded_wrongly(loaded())) == []
    ahead = loaded(script="upserted", n=15, distinct_n=15, high=FIRST + 14)
    assert list(loaded_wrongly(ahead)) == []  # rows that a crash parted from their ledger


@pytest.mark.parametrize(
    ("differently", "said"),
    [
        ({"n": 11}, "1 rows twice"),
        ({"n": 9, "distinct_n": 9}, "9 rows"),
        ({"n": 11, "distinct_n": 11, "high": FIRST + 10}, "11 rows"),
        ({"wrong": 1}, "somebody else"),
        ({"script": "upserted", "n": 9, "distinct_n": 9}, "rows are missing"),
        ({"script": "upserted", "n": 9, "distinct_n": 9, "high": FIRST + 8}, "instead of"),
        ({"covered": [Range(BEGAN + timedelta(seconds=1), ENDED)]}, "gaps"),
        ({"covered": [Range(BEGAN, BEGAN), Range(BEGAN, ENDED)]}, "gaps"),
    ],
)
def test_every_way_in_which_rows_and_ledger_can_disagree_is_reported(
    differently: dict[str, Any], said: str
) -> None:
    (finding,) = loaded_wrongly(loaded(**differently))
    assert said in finding
