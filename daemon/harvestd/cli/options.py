"""The options that several commands share, with their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON on stdout instead of a table.")
]
Yes = Annotated[bool, Parameter(name="--yes", negative="", help="Do not ask.")]
DryRun = Annotated[
    bool,
    Parameter(name="--dry-run", negative="", help="Say what would happen, and change nothing."),
]
Source = Annotated[str | None, Parameter(help="Only this data source.")]
Script = Annotated[str | None, Parameter(help="Only this script (its name without the source).")]


def _whole(type_: Any, tokens: Sequence[Token]) -> int:
    given = tokens[0].value
    try:
        return int(given)
    except ValueError:
        raise ValueError(f"{given!r} is no whole number") from None


WHOLE = Parameter(converter=_whole)
"""For numbers: cyclopts rounds 1.5."""
