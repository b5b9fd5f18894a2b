"""What a script prints goes into its log, with its secrets taken out, and never to stdout.

stdout is a command's answer, and stderr the daemon's log: neither is a script's.
"""

from __future__ import annotations

import sys
from typing import Any

from harvestd.execution.strays import started
from harvestd.observing.logs import get_logger

log = get_logger()

CHARS_WITHOUT_A_LINE_MAX = 10_000


def capture_prints() -> None:
    """From now on stdout and stderr pass on only what is not a script's."""
    if not isinstance(sys.stdout, _Printed):
        sys.stdout = _Printed(sys.stdout)
    if not isinstance(sys.stderr, _Printed):
        sys.stderr = _Printed(sys.stderr)


class _Printed:
    """A text stream; what a script writes is logged line by line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        of_script = started.get()
        if of_script is None:
            return int(self._stream.write(text))
        of_script.printed += text
        *lines, rest = of_script.printed.split("\n")
        if len(rest) > CHARS_WITHOUT_A_LINE_MAX:
            lines, rest = [*lines, rest], ""
        of_script.printed = rest
        for line in lines:
            tell_printed(line)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Not for scripts: the log would end with it."""
        if started.get() is None:
            self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tell_printed(line: str) -> None:
    """Log one line that a script printed."""
    if not line.strip():
        return
    token = started.set(None)  # the log's own line may go to a stream of ours
    try:
        log.info("script_logged", message=line, values={})
    finally:
        started.reset(token)
