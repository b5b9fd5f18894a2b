"""The kit for authors of data sources: pytest fixtures, and tests that any script must pass.

    from harvestd.testing import Harvest, StandardSuite

`fixtures.py` is what pytest loads by itself, `harvest.py` what a test works with, `standard.py`
the suite; `replica.py` is the part of the daemon that works on a run, and `faults.py` what
happens to it.  docs/plugins.md shows each at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harvestd.testing.harvest import Harvest
    from harvestd.testing.replica import Ran
    from harvestd.testing.standard import StandardSuite

__all__ = ["Harvest", "Ran", "StandardSuite"]


def __getattr__(name: str) -> Any:
    """Each when it is first asked for: pytest loads this package wherever harvestd is installed."""
    from importlib import import_module

    homes = {"Harvest": "harvest", "Ran": "replica", "StandardSuite": "standard"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
