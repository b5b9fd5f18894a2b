"""The command ``harvestd``: reads the command line, calls the command, explains what went wrong.

Exit codes: 0 done, 1 failed, 2 usage or settings, 3 cannot reach the database, 128 + n ended by
signal n.  Answers go to stdout, everything else to stderr; an error is three lines, what
happened, why, and what to do next, never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from harvestd.cli.looping import end_process
from harvestd.cli.output import DONE, FAILED, INTERRUPTED, exit_code, note, say_error
from harvestd.errors import HarvestdError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code.  Without ``arguments`` it is this process's own."""
    if arguments is None:
        return end_process(main(sys.argv[1:]))
    given = list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter shows a "?"
            stream.reconfigure(errors="replace")
    try:
        return _run(given)
    except KeyboardInterrupt:
        note("harvestd: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our answer has seen enough; Python must not complain while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _explain(error)


def _run(given: Sequence[str]) -> int:
    # Only here, where Ctrl-C is caught: these imports are most of a command's first moment.
    from cyclopts import CycloptsError

    from harvestd.cli.commands import make_app
    from harvestd.cli.usage import explain_usage

    app = make_app()
    try:
        code = app(
            list(given), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise explain_usage(app, error, given) from None
    sys.stdout.flush()
    return int(code or DONE)


def _explain(error: Exception) -> int:
    """Say what happened, and answer the exit code."""
    known = sorted(_leaves(error), key=lambda leaf: not isinstance(leaf, HarvestdError))
    first = known[0]
    if isinstance(first, HarvestdError):
        say_error(first)
        return exit_code(first)
    debugging = os.environ.get("HARVESTD_LOG_LEVEL") == "debug"
    place = _traceback(first) if debugging else ""
    say_error(
        HarvestdError(
            f"{type(first).__name__} inside harvestd, which is a mistake of harvestd",
            # Not its text: nobody knows what a foreign error quotes.
            why=place or "nothing more is shown without HARVESTD_LOG_LEVEL=debug",
            next_step="report it with the output of HARVESTD_LOG_LEVEL=debug",
        )
    )
    return FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What a task group collected; several loops may have ended for one reason."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _traceback(error: BaseException) -> str:
    """The places in the code, without locals and without the text of the error."""
    from harvestd.observing.tracebacks import describe

    return "\n".join(str(part) for part in describe(error))
