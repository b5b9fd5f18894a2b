"""How much a sweep may mark without being forced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvestd.loading.sweep import vanishing_max

SMALL = [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (8, 4), (9, 5), (50, 5), (59, 5)]
LARGE = [(60, 6), (100, 10), (109, 10), (110, 11), (1_000_000, 100_000)]


@pytest.mark.parametrize(("live", "allowed"), [*SMALL, *LARGE])
def test_a_tenth_may_vanish_and_of_a_small_scope_five_but_not_more_than_half(
    live: int, allowed: int
) -> None:
    assert vanishing_max(live) == allowed


@given(st.integers(0, 10_000_000))
def test_a_larger_scope_never_allows_fewer_and_an_empty_listing_never_empties_two_rows(
    live: int,
) -> None:
    assert vanishing_max(live) <= vanishing_max(live + 1) <= vanishing_max(live) + 1
    assert live < 2 or vanishing_max(live) < live
