"""A schema.sql cut into its statements, so that a failing one is known by its line.

The cut need not be right to be safe: whatever the server is sent, its transaction id tells
whether it stayed in the one transaction (``schemas.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TOKENS_KEPT = 8
"""How many tokens of a statement are kept to recognise it by."""

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | (?P<comment>/\*)
      | (?P<text>[eE]'(?:[^'\\]|\\.|'')*'?|'(?:[^']|'')*'?|"(?:[^"]|"")*"?)
      | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
      | (?P<word>\w[\w$]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
COMMENT_PART = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class DdlStatement:
    """One statement: its ``text``, the ``line`` it begins on (from 1), and its first tokens.

    Words among the ``tokens`` are in capitals; names in double quotes are as written.
    """

    text: str
    line: int
    tokens: tuple[str, ...]

    @property
    def verb(self) -> str:
        """The first word: CREATE, ALTER, COMMIT."""
        return self.tokens[0]

    def line_at(self, position: int) -> int:
        """The line of the file for a position in ``text``, counted in characters from 1."""
        return self.line + self.text.count("\n", 0, max(position - 1, 0))


def cut_statements(sql: str) -> tuple[DdlStatement, ...]:
    """The statements of ``sql`` in order, without what only comments."""
    return tuple(_statements(sql))


def find_line(statements: Sequence[DdlStatement], names: Sequence[str]) -> int | None:
    """The first line that mentions the first of ``names`` which is mentioned at all."""
    for name in names:
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
        for statement in statements:
            if found := word.search(statement.text):
                return statement.line_at(found.start() + 1)
    return None


def makes_schema(statement: DdlStatement, schema: str) -> bool:
    """Whether it is exactly ``CREATE SCHEMA IF NOT EXISTS schema``."""
    wanted = ("CREATE", "SCHEMA", "IF", "NOT", "EXISTS")
    name = (schema.upper(), f'"{schema}"')
    return statement.tokens[:-1] == wanted and statement.tokens[-1] in name


def _statements(sql: str) -> Iterator[DdlStatement]:
    begin: int | None = None
    tokens: list[str] = []
    depth = 0  # a rule's actions lie in parentheses and are separated by semicolons
    for start, end, kind in _tokens(sql):
        piece = sql[start:end]
        if piece == ";" and depth <= 0:
            if begin is not None:
                yield _statement(sql, begin, start, tokens)
            begin, tokens, depth = None, [], 0
            continue
        if begin is None:
            begin = start
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if len(tokens) < TOKENS_KEPT:
            tokens.append(piece.upper() if kind == "word" else piece)
    if begin is not None:
        yield _statement(sql, begin, len(sql), tokens)


def _statement(sql: str, begin: int, end: int, tokens: Sequence[str]) -> DdlStatement:
    return DdlStatement(sql[begin:end].rstrip(), 1 + sql.count("\n", 0, begin), tuple(tokens))


def _tokens(sql: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of each token, without space and comments."""
    place = 0
    while (found := TOKEN.match(sql, place)) is not None:
        kind, end = str(found.lastgroup), found.end()
        if kind == "comment":
            end = _end_of_comment(sql, end)
        elif kind == "dollar":
            closing = sql.find(found[0], end)
            end = len(sql) if closing < 0 else closing + len(found[0])
        if kind not in ("space", "comment"):
            yield place, end, kind
        place = end


def _end_of_comment(sql: str, place: int) -> int:
    """Where the comment ends that was open at ``place``; comments nest."""
    depth = 1
    while depth and (found := COMMENT_PART.search(sql, place)) is not None:
        depth += 1 if found[0] == "/*" else -1
        place = found.end()
    return len(sql) if depth else place
