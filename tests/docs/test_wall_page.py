"""docs/wall.md: each test that it names exists, and each attack that is sent is on it."""

from __future__ import annotations

import ast
import re

from tests.processes import ROOT
from tests.wall.attacks import POINTLESS, REFUSED

PAGE = (ROOT / "docs" / "wall.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))


def test_each_test_that_the_page_names_exists() -> None:
    there = {
        (file, node.name)
        for file, _ in NAMED
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    }
    assert NAMED
    assert sorted(NAMED - there) == []


def test_each_file_of_the_attacks_is_named_on_the_page() -> None:
    files = {f"tests/wall/{path.name}" for path in (ROOT / "tests" / "wall").glob("test_*.py")}

    assert sorted(files - {file for file, _ in NAMED}) == []


def test_each_kind_of_attack_is_on_the_page() -> None:
    assert [kind for kind in (*REFUSED, *POINTLESS) if kind not in PAGE] == []
