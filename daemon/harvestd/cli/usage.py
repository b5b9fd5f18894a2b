"""A mistake on the command line, in our three lines, with the command that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from harvestd.cli.output import UsageError, plain


def explain_usage(app: App, error: CycloptsError, given: Sequence[str]) -> UsageError:
    """Our error for cyclopts'; a configuration value that was given as an argument stays unsaid."""
    if {"config", "set"} <= set(given):
        return UsageError(
            "config set takes TENANT SOURCE KEY, and the value from standard input",
            why="an argument is seen by everybody who lists processes, and kept by the shell; "
            "a value that was given as one is not repeated here",
            next_step="harvestd config set TENANT SOURCE KEY < FILE (change a secret that was "
            "given as an argument)",
        )
    right, group, rest = _walk(app, given)
    command = " ".join(["harvestd", *right])
    if rest and _commands(group):
        return _no_such(group, command, rest[0])
    if isinstance(error, UnknownOptionError):
        option = error.token.keyword or error.token.value
        there = [name for one in error.argument_collection for name in one.names]
        return _no_such_option(command, option, there)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        what = f"{command} needs {error.argument.name}"
    elif isinstance(error, UnusedCliTokensError):
        what = f"{command} does not take {' '.join(map(repr, error.unused_tokens or []))}"
    else:
        what = plain(str(error))
    return UsageError(
        what,
        why="the command line has too few or too many words, or a value that does not fit",
        next_step=f"{command} --help",
    )


def _no_such(group: App, command: str, word: str) -> UsageError:
    if word.startswith("-"):
        return _no_such_option(command, word, ["--version"] if command == "harvestd" else [])
    there = _commands(group)
    near = _near(word, there)
    right = f"{command} {near}"
    return UsageError(
        f"there is no command '{command} {word}'",
        why=f"there are: {', '.join(there)}",
        next_step=f"did you mean '{right}'? Its help: {right} --help"
        if near
        else f"{command} --help",
    )


def _no_such_option(command: str, option: str, there: Iterable[str]) -> UsageError:
    options = [*sorted(name for name in there if name.startswith("--")), "--help"]
    near = _near(option.partition("=")[0], options)
    return UsageError(
        f"{command} has no option {option.partition('=')[0]}",
        why=f"it has {', '.join(options)}",
        next_step=f"did you mean {near}? Its help: {command} --help"
        if near
        else f"{command} --help",
    )


def _walk(app: App, given: Sequence[str]) -> tuple[list[str], App, list[str]]:
    """The words of ``given`` that are commands, the last of these, and the words after them."""
    right: list[str] = []
    for position, word in enumerate(given):
        if word not in _commands(app):
            return right, app, list(given[position:])
        app = app[word]
        right.append(word)
    return right, app, []


def _commands(app: App) -> list[str]:
    return [name for name in app if not name.startswith("-")]


def _near(word: str, there: Iterable[str]) -> str | None:
    # Without the dashes, or every option would be near every other.
    bare = {one.lstrip("-"): one for one in there}
    found = difflib.get_close_matches(word.lstrip("-"), bare, n=1)
    return bare[found[0]] if found else None
