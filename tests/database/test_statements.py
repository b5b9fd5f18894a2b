"""All files of sql/queries at once: they run on the schema, say what they take, and are used."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

import harvestd
from harvestd.database.statements import load_statements, sql_root
from tests.clusters import create_database, drop_database

Connection: TypeAlias = "asyncpg.Connection[Any]"

DAEMON = Path(harvestd.__file__).parent
COMMENT = re.compile(r"--.*$", re.MULTILINE)
PARAMETER_LINE = re.compile(r"^-- \$(\d+) (\w+)\s+(\S.*)$", re.MULTILINE)

each_statement = pytest.mark.parametrize(("name", "text"), load_statements().items())


def parameters_of(text: str) -> list[int]:
    """The numbers of the parameters that the header describes."""
    return [int(found[1]) for found in PARAMETER_LINE.finditer(text)]


@pytest.fixture(scope="session")
async def connection(template: str, server: Any) -> AsyncIterator[Connection]:
    # Not the template itself: one that is connected to cannot be cloned by the other tests.
    name = await create_database(server, template=template)
    connection = await asyncpg.connect(server.url(name))
    yield connection
    await connection.close()
    await drop_database(server, name)


@each_statement
async def test_a_statement_can_be_prepared(name: str, text: str, connection: Connection) -> None:
    prepared = await connection.prepare(text)

    assert len(prepared.get_parameters()) == len(parameters_of(text)), name


@each_statement
def test_a_statement_describes_each_parameter_it_uses(name: str, text: str) -> None:
    used = {int(number) for number in re.findall(r"\$(\d+)", COMMENT.sub("", text))}

    assert parameters_of(text) == sorted(used), name
    assert parameters_of(text) == list(range(1, len(used) + 1))


@each_statement
def test_a_statement_says_its_name_and_what_it_answers(name: str, text: str) -> None:
    assert text.startswith(f"-- {name}: ")
    assert re.search(r"^-- -> ", text, re.MULTILINE)


def strings_of(path: Path) -> list[str]:
    """The string literals of a module, as Python sees them (no comment, no part of a word)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


LITERALS = {path: strings_of(path) for path in sorted(DAEMON.rglob("*.py"))}


@each_statement
def test_a_statement_is_used_in_exactly_one_place(name: str, text: str) -> None:
    places = [
        str(path.relative_to(DAEMON))
        for path, strings in LITERALS.items()
        for string in strings
        if string == name and path.parent.name != "torture"  # which plants faults in them
    ]
    assert text and len(places) == 1, places


def test_each_statement_that_is_asked_for_exists() -> None:
    asked = re.compile(r"""(?:\bsql|\.fetch(?:row|val)?)\(\s*["'](\w+)["']""")
    missing = {
        f"{path.relative_to(DAEMON)}: {name}"
        for path in LITERALS
        for name in asked.findall(path.read_text(encoding="utf-8"))
        if name not in load_statements()
    }
    assert missing == set()


def test_no_line_of_sql_is_longer_than_a_hundred() -> None:
    long = [
        f"{path.name}:{number}"
        for path in sorted(sql_root().rglob("*.sql"))
        if path.name != "schema.sql"  # generated
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    assert long == []
