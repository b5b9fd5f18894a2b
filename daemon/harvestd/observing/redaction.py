"""Replaces secrets in text: this run's values in every usual spelling, and well-known shapes.

Shapes (``Bearer ...``, ``://user:password@``, ``ghp_...``) are masked always;
values only where they are known, which is why a run sets ``current_redactor``.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from urllib.parse import quote, quote_plus
from weakref import WeakSet

MASK = "[redacted]"
# Shorter values ("main", "true", "9464") are words of every other text.
SECRET_CHARS_MIN = 8
# A JSON value (a service account's key file) counts by its strings, up to so many.
JSON_STRINGS_MAX = 64
# And a text by its lines, which a key file has a hundred of: each is looked for in 20 spellings.
LINES_MAX = 256
# How far a shape may reach; text is read so much further than it is shown, so that a
# secret across the cut is still recognised.
SHAPE_CHARS_MAX = 1024

_QUERY = "access_token|auth|token|api_?key|key|client_secret|secret|password|passwd|sig|signature"
_FIELD = "password|passwd|pwd|client_secret|secret|access_token|refresh_token|id_token|api_?key"
# Each shape has exactly one group: what is masked.
_SHAPES = re.compile(
    "|".join(
        (
            r"://([^\s/?#@:]{0,256}:[^\s/?#]{0,512})@",
            r"(?i:https?)://([^\s/?#]{8,512})@",
            r"(?i:\bbearer)\s+([^\s\"',;]{3,512})",
            r"(?i:\bbasic)\s+(?=\S*[0-9=+/])([A-Za-z0-9+/=]{8,512})",
            r"(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?)(?:\w+\s+)?([^\s\"',;]{3,512})",
            r"(\bgh[pousr]_[A-Za-z0-9]{16,255})",
            r"(\bgithub_pat_\w{20,255})",
            r"(\bglpat-[\w-]{16,255})",
            r"(\bxox[abeoprs]-[\w-]{10,255})",
            r"(\bATATT[\w=-]{20,512})",
            r"(\bA[KS]IA[0-9A-Z]{16})",
            r"(\b[rs]k_(?:live|test)_\w{16,255})",
            r"(\beyJ[\w-]{8,512}\.[\w-]{8,512}(?:\.[\w-]{0,512})?)",
            r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----"
            r"((?:(?!-----END)[\s\S]){1,8192})",
            rf"(?i:[?&](?:{_QUERY})=)([^&\s#\"']{{1,512}})",
            rf"(?i:\b(?:{_FIELD})(?:\\?[\"'])?\s*[=:]\s*(?:\\?[\"'])?)([^\s\"'&,;\\]{{3,512}})",
        )
    )
)
# Without one of these (in lower case) no shape can be there.  Plain substrings: a regular
# expression of the same words costs a log line ten times as much.
_HINTS = (
    *("://", "=", "-----begin", "bearer", "basic", "authori", "pass", "pwd", "secret", "token"),
    *("key", "ghp", "gho", "ghu", "ghs", "ghr", "github_pat", "glpat", "xox", "atatt", "eyj"),
    *("kia", "sia", "k_live", "k_test"),
)
# "://u:p@"
_SHAPE_CHARS_MIN = 7

_living: WeakSet[Redactor] = WeakSet()
_living_lock = threading.Lock()


class Redactor:
    """Replaces one run's secret values in text, and the shapes."""

    __slots__ = ("__weakref__", "_forms", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        """``values``: the secrets; those under SECRET_CHARS_MIN characters are left alone.

        Costs next to nothing: the spellings are made at the first text, which most runs
        never have.
        """
        self._values = tuple(value for value in values if len(value) >= SECRET_CHARS_MIN)
        self._forms: tuple[str, ...] | None = None
        if self._values:
            with _living_lock:
                _living.add(self)

    def clean(self, text: str, chars_max: int | None = None) -> str:
        """``text`` without secrets, and of ``chars_max`` source characters at most."""
        return _masked(text, self.forms(), chars_max)

    def forms(self) -> tuple[str, ...]:
        """Every spelling that is looked for, shortest first."""
        if self._forms is None:
            parts = {part for value in self._values for part in _parts_of(value)}
            self._forms = tuple(
                sorted({form for part in parts for form in _forms_of(part)}, key=len)
            )
        return self._forms


SHAPES_ONLY = Redactor()
current_redactor: ContextVar[Redactor] = ContextVar("current_redactor", default=SHAPES_ONLY)


def redact(text: str, chars_max: int | None = None) -> str:
    """``text`` without this run's secrets; outside a run, without those of any living run.

    The latter is for texts that reach us elsewhere than they arose: a library's log
    line from a thread, an exception found by the garbage collector.
    """
    redactor = current_redactor.get()
    if redactor is not SHAPES_ONLY:
        return redactor.clean(text, chars_max)
    with _living_lock:
        living = tuple(_living)
    forms = sorted((form for redactor in living for form in redactor.forms()), key=len)
    return _masked(text, forms, chars_max)


def _masked(text: str, forms: Sequence[str], chars_max: int | None) -> str:
    shown = len(text) if chars_max is None else min(chars_max, len(text))
    if shown < len(text):
        reach = max(SHAPE_CHARS_MAX, len(forms[-1]) if forms else 0)
        text = text[: shown + reach]
    spans = sorted(_spans(text, forms))
    if not spans:
        return text[:shown]
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        if start >= shown:
            break
        if start > at or not pieces:
            pieces += (text[at:start], MASK)
        at = max(at, end)
    pieces.append(text[at:shown])
    return "".join(pieces)


def _spans(text: str, forms: Sequence[str]) -> Iterator[tuple[int, int]]:
    # All spans first and then one pass: two secrets may overlap, and replacing one after
    # the other would leave the rest of the second in clear.
    for form in forms:
        if len(form) > len(text):
            break
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + len(form))
    if len(text) >= _SHAPE_CHARS_MIN and _may_hold_a_shape(text):
        for match in _SHAPES.finditer(text):
            yield match.span(match.lastindex or 0)


def _may_hold_a_shape(text: str) -> bool:
    lower = text.lower()
    for hint in _HINTS:  # noqa: SIM110 (a loop costs half of any())
        if hint in lower:
            return True
    return False


def _parts_of(value: str) -> Iterator[str]:
    """The value, its lines (a key file printed line by line), the strings of a JSON value."""
    yield value
    candidates = [value.strip(), *(line.strip() for line in islice(value.splitlines(), LINES_MAX))]
    if value.lstrip()[:1] in ("{", "["):
        candidates += _strings_in(value)
    for candidate in candidates:
        if len(candidate) >= SECRET_CHARS_MIN:
            yield candidate


def _strings_in(value: str) -> list[str]:
    try:
        waiting: list[object] = [json.loads(value)]
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    while waiting and len(found) < JSON_STRINGS_MAX:
        part = waiting.pop()
        if isinstance(part, str):
            found += [part, *part.splitlines()]
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def _forms_of(part: str) -> Iterator[str]:
    yield part
    for encoded in (quote(part, safe="", errors="replace"), quote(part, errors="replace")):
        yield encoded
        yield re.sub("%..", lambda match: match[0].lower(), encoded)
    yield quote_plus(part, errors="replace")
    for escaped in (json.dumps(part), json.dumps(part, ensure_ascii=False)):
        yield escaped[1:-1]
        yield escaped[1:-1].replace("/", "\\/")
    yield repr(part)[1:-1]
    yield part.encode("unicode_escape").decode("ascii")
    octets = part.encode("utf-8", errors="replace")
    yield octets.hex()
    yield octets.hex().upper()
    yield from _base64_forms(octets)


def _base64_forms(octets: bytes) -> Iterator[str]:
    # Base64 of "user:token" holds the token at one of three alignments; the characters
    # that it shares with its neighbours are left out.
    for lead in range(3):
        whole = base64.b64encode(b"\0" * lead + octets).decode("ascii")
        first = (0, 2, 3)[lead]
        inner = whole[first : (lead + len(octets)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
