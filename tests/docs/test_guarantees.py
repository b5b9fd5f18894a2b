"""docs/guarantees.md: every promise has its five parts, and what it names exists."""

from __future__ import annotations

import re

import pytest

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PROMISES = dict(re.findall(r"^## (\d)\. [^\n]+\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))


def test_there_are_eight_promises() -> None:
    assert list(PROMISES) == [str(number) for number in range(1, 9)]


@pytest.mark.parametrize("number", PROMISES)
def test_each_promise_says_how_it_is_kept_proved_repeated_and_where_it_ends(number: str) -> None:
    text = PROMISES[number]
    parts = re.findall(r"^\*\*(\w+)\.\*\* ", text, re.MULTILINE)
    mechanism = text.partition("**Mechanism.** ")[2].partition("\n\n")[0]

    assert parts == ["Promise", "Mechanism", "Proof", "Limits"]
    assert len(re.findall(r"\.(?=\s|$)", mechanism)) == 5
    assert re.search(r"^```\n(pytest|make|harvestd) ", text, re.MULTILINE)


def test_each_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"\btests/[\w/.]*\w", PAGE))

    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
