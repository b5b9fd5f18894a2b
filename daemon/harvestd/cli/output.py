"""What a person or a program sees: JSON or a table on stdout, notes and errors on stderr."""

from __future__ import annotations

import shutil
import signal
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

from harvestd.errors import (
    AddressRefused,
    AlreadyOwned,
    EmbeddedError,
    EntryRefused,
    HarvestdError,
    PluginError,
    SettingsError,
    Unreachable,
)

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED = 128 + signal.SIGINT

# Where nobody looks at a terminal, a table may be as wide as its longest row.
WIDTH_ELSEWHERE = 240
CELL_CHARS_MAX = 200
WORD_CHARS_MAX = 20
SHORT_SPAN = timedelta(days=3)
NOBODY_RUNS = "no replica is running: harvestd run takes them up"


class UsageError(HarvestdError):
    """The command line is not one that harvestd understands, or lacks a --yes."""

    code = "usage"


class Unknown(HarvestdError):
    """Something named on the command line is not there."""

    code = "unknown"


def exit_code(error: HarvestdError) -> int:
    """What a command ends with that ``error`` ended."""
    match error:
        case SettingsError() | UsageError() | AddressRefused():
            return USAGE
        case AlreadyOwned():
            return FAILED
        case Unreachable() | EntryRefused() | EmbeddedError():
            return UNREACHABLE
        case _:
            return FAILED


def say_error(error: HarvestdError) -> None:
    """Three lines on stderr: what, why, next."""
    place = error.place if isinstance(error, PluginError) and error.path else ""
    print_told(f"harvestd: {place}" if place else "harvestd", error, sys.stderr)


def print_told(about: str, error: HarvestdError, stream: TextIO | None = None) -> None:
    """``about: what``, then why and next, whole; a terminal gets them wrapped between words."""
    stream = stream or sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    print(_wrapped(f"{about}: ", error.what, "  ", width), file=stream)
    if error.why:
        print(_wrapped("  why:  ", error.why, " " * 8, width), file=stream)
    if error.next_step:
        # Not wrapped: it may be a command, which is copied whole.
        print(f"  next: {plain(error.next_step)}", file=stream)


def _wrapped(head: str, text: str, indent: str, width: int) -> str:
    whole = plain(head + text)
    if len(whole) <= width or width < 20:
        return whole
    return "\n".join(
        textwrap.fill(
            line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        for line in whole.split("\n")
    )


def note(text: str) -> None:
    """A line that is not the answer."""
    print(plain(text), file=sys.stderr)


def plain(text: str) -> str:
    """Without what could drive a terminal; line breaks stay."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )


def print_json(value: object) -> None:
    """One JSON document on stdout: dataclasses become objects, times ISO 8601 in UTC."""
    import orjson  # only for --json

    document = orjson.dumps(
        value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    )
    print(document.decode(), flush=True)


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    folded: Collection[str] | None = None,
) -> None:
    """A table on stdout; numbers lie right, null is empty, long cells are cut.

    ``folded``: the columns that give way first on a narrow terminal, down to their longest
    word; None: all.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    filled = [list(row) for row in rows]
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    for position, column in enumerate(columns):
        numbers = any(isinstance(row[position], (int, float)) for row in filled)
        words = [word for row in filled for word in cell(row[position]).split()] if folded else []
        table.add_column(
            Text(column),
            justify="right" if numbers else "left",
            overflow="fold",
            min_width=min(max(map(len, words), default=0), WORD_CHARS_MAX) or None,
            no_wrap=folded is not None and column not in folded,
        )
    for row in filled:
        table.add_row(*(Text(cell(value)) for value in row))
    on_terminal = sys.stdout.isatty()
    console = Console(width=None if on_terminal else WIDTH_ELSEWHERE, highlight=False)
    if console.measure(table, options=console.options.update(width=WIDTH_ELSEWHERE)).maximum > (
        console.width
    ):
        table.padding = (0, 0)  # a narrow terminal costs the second space before a line's end
    console.print(table)
    sys.stdout.flush()  # notes and errors go to stderr, and come after it


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, datetime):
        return minute(value)
    text = plain(" ".join(str(value).split()))
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def minute(moment: datetime) -> str:
    """``2026-11-25 05:57``, in UTC."""
    if moment.tzinfo is None:
        return moment.isoformat(" ", "minutes")
    return moment.astimezone(UTC).isoformat(" ", "minutes")[:16]


def span(covered_from: datetime | None, covered_to: datetime | None) -> str:
    """``2026-08-27 – 2026-11-25``, with the minutes when it is short; empty without one."""
    if covered_from is None or covered_to is None:
        return ""
    places = 10 if covered_to - covered_from > SHORT_SPAN else 16
    return f"{minute(covered_from)[:places]} – {minute(covered_to)[:places]}"


def lasting(seconds: float | None) -> str:
    """A duration in its largest sensible unit: ``40 s``, ``12 min``, ``5 h``, ``3 d``."""
    if seconds is None:
        return ""
    whole = abs(seconds)
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if whole >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def confirm(question: str, *, yes: bool, needed_elsewhere: bool, what: str) -> None:
    """Go on only if a person at the terminal, or --yes, says so.

    ``needed_elsewhere``: without a terminal --yes is needed; else nobody is asked there.

    Raises: UsageError, when --yes is missing or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        if needed_elsewhere:
            raise UsageError(
                f"{what} needs --yes where nobody can be asked",
                why=question,
                next_step="run it again with --yes, or from a terminal",
            )
        return
    print(f"{plain(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(f"{what} was not confirmed; nothing was changed")
