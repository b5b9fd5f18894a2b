"""The due list: in order, and small however many wait."""

from __future__ import annotations

import sys

from harvestd.execution.feeder import PAGE, DueList


def a_list(*run_nos: int) -> DueList:
    due = DueList()
    for run_no in run_nos:
        due.add(run_no, in_hand=False)
    return due


def take(due: DueList, room: int, narrow: int = 0) -> tuple[list[int], dict[int, int]]:
    return due.take(room, lambda limit: narrow)


def test_pages_come_in_order_and_no_larger_than_the_room_there_is() -> None:
    due = a_list(5, 3, 9, 1)

    assert take(due, 0) == ([], {})
    assert take(due, 3) == ([5, 3, 9], {})
    assert due.tenants == 1
    assert take(due, 99) == ([1], {})
    assert take(due, 99) == ([], {})
    assert due.tenants == 0
    assert take(a_list(*range(2 * PAGE)), 2 * PAGE)[0] == list(range(PAGE))


def test_what_joins_a_turn_under_way_needs_no_room() -> None:
    due = a_list(5)
    due.add(7, in_hand=True)

    assert take(due, 0) == ([7], {})
    assert take(due, 0) == ([], {})
    assert take(due, 1) == ([5], {})


def test_what_comes_again_comes_last_with_its_fence() -> None:
    due = a_list(5)
    due.again.update({7: 3, 8: 4})

    assert take(due, 1) == ([5], {})
    assert take(due, 1) == ([7], {7: 3})
    assert take(due, 9) == ([8], {8: 4})
    assert due.tenants == 0


def test_what_waits_for_a_narrow_limit_comes_when_there_is_room_before_it() -> None:
    due = a_list(5)
    due.note_crowded({"github": {7: 3, 8: 4}, "jira": {9: 1}})

    assert take(due, 1, narrow=1) == ([5], {})
    assert take(due, 9) == ([], {})
    assert due.tenants == 3
    due.again.update({4: 1})
    assert take(due, 9, narrow=1) == ([7], {7: 3})
    assert take(due, 9) == ([4], {4: 1})
    assert take(due, 9, narrow=2) == ([8], {8: 4})
    assert take(due, 9, narrow=2) == ([9], {9: 1})
    assert due.tenants == 0


def test_a_million_tenants_take_eight_megabytes() -> None:
    due = a_list(*range(10**9, 10**9 + 1_000_000))

    assert sys.getsizeof(due.others) < 9_200_000  # an array grows by an eighth
