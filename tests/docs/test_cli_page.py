"""docs/cli.md and every --help: all commands, and examples that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from cyclopts import App

from harvestd.cli.commands import make_app
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### harvestd ([a-z ]+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {found[1]: found[2] for found in SECTION.finditer(PAGE)}
SHELL = {"|", "<", ">"}


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Each command that does something, by its words after ``harvestd``."""
    for name in app:
        if not name.startswith("-"):
            inner = list(commands(app[name], (*path, name)))
            yield from inner or [(" ".join((*path, name)), app[name])]


COMMANDS = dict(commands(make_app()))
EXAMPLES = [
    *(line for text in SECTIONS.values() for line in re.findall(r"^harvestd .*$", text, re.M)),
    *(
        line
        for app in COMMANDS.values()
        for line in re.findall(r"^\s*\$ (.*)$", app.default_command.__doc__ or "", re.M)
    ),
]


def test_the_page_has_every_command_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", SECTIONS)
def test_each_command_has_a_paragraph_and_an_example_of_itself(name: str) -> None:
    paragraph, fence, rest = SECTIONS[name].partition("```\n")

    assert fence
    assert paragraph.strip().endswith(".")
    assert rest.startswith(f"harvestd {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_examples_of_its_command(name: str) -> None:
    examples = re.findall(r"^\s*\$ (.*)$", COMMANDS[name].default_command.__doc__ or "", re.M)

    assert any(f"harvestd {name}" in line for line in examples)


@pytest.mark.parametrize("line", EXAMPLES)
def test_each_example_is_a_line_that_the_command_line_takes(line: str) -> None:
    words = shlex.split(line)
    words = words[words.index("harvestd") + 1 :]
    end = next((at for at, word in enumerate(words) if word in SHELL), len(words))
    make_app().parse_args(words[:end], exit_on_error=False, print_error=False)


def test_each_option_that_the_page_names_exists() -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", PAGE))
    known = {
        name
        for app in COMMANDS.values()
        for argument in app.assemble_argument_collection()
        for name in argument.names
    }
    assert named <= known | {"--help"}
