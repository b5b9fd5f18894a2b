"""A column as the server describes it."""

from __future__ import annotations

from typing import Any

from harvestd.loading.columns import Column


def a_column(type_: str, **changed: Any) -> Column:
    """A column called ``title`` of ``type_``, as format_type spells it."""
    described: dict[str, Any] = {
        "name": "title",
        "type": type_,
        "is_array": type_.endswith("[]"),
        "generated": False,
        "in_key": False,
    }
    return Column(**(described | changed))
