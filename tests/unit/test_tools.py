"""A tool that is not there may be missing on a developer's machine, and nowhere else."""

from __future__ import annotations

import pytest

from tests.tools import is_missing


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_a_missing_tool_fails_the_test_only_where_all_tools_are_required(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_TOOLS", required)

    with pytest.raises(outcome, match="no anvil here"):
        is_missing("no anvil here")
