"""Rows kept aside until all of them are there, for what must reach the server as one transaction.

A producer may be a slow upstream.  While it is waited for, neither a seat nor a transaction is
held: seats are few, and the server ends a transaction that idles for a minute.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from harvestd.errors import RunError

MEMORY_BYTES_MAX = 4 * 1024 * 1024
"""Beyond that the rows lie in a file without a name, which goes with the process."""


class Spool:
    """Batches in the order they came, in bounded memory."""

    def __init__(self) -> None:
        # Closed by __exit__.
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115
        self._batches = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # what a full disk did not take; nobody needs it any more
            self._file.close()

    def add(self, batch: object) -> None:
        """Keep a batch.  Raises: RunError, when the disk is full."""
        try:
            pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
            # Here, since a failure while the rows are being sent would be taken for the server's.
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"rows cannot be kept until their transaction: {error.strerror}",
                why=f"more than {MEMORY_BYTES_MAX:,} bytes of them wait in a temporary file",
                next_step="make room, let TMPDIR point to where there is room, or send fewer rows",
            ) from None
        self._batches += 1

    def __iter__(self) -> Iterator[Any]:
        self._file.seek(0)
        for _ in range(self._batches):
            yield pickle.load(self._file)  # noqa: S301 - what add() has just written
