"""The options that several commands share, with their words."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

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
