"""``python -m harvestd``: the same as the command ``harvestd``."""

from __future__ import annotations

import sys

from harvestd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
