"""One raw commit object → one row of ``git.commit``: pure, and never failing.

Commits are read as they are stored, not as ``git log`` shows them: anything may be in one
(text of any encoding, no author, a date of the year 292 billion, a message of a gigabyte, a
NUL), and it loads with what can be said about it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TEXT_BYTES_MAX = 2 << 20
"""Longer texts are cut there, and a message says so: three times as many bytes, which odd ones
can become, still fit into a value of the database."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The second day and the last but one of what datetime holds: any offset stays inside.
_SECONDS_MIN = int((datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds())
_SECONDS_MAX = int((datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds())

_WHEN = re.compile(rb"\s*(-?\d{1,20})(?:\s+([+-]?)(\d{1,20}))?\s*")
_SHORTSTAT = re.compile(
    rb" (\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?"
)

_ODD_NAME = re.compile('^"|[\x00-\x1f\x7f-\x9f\udc80-\udcff]')
_ODD_CHARACTER = re.compile('["\\\\\x00-\x1f\x7f-\x9f\udc80-\udcff]')

_BLANK = " \t\r"  # what git takes for a space at the end of a line

# What commits are found to be written in.  A list, since Python's codecs also hold some that
# are no character sets, and some that take quadratic time.
_ENCODING = re.compile(
    r"us_ascii|ascii|latin_?[1-9]|iso_?8859_\d{1,2}|(cp|windows_?|ibm)\d{3,4}|koi8_[rut]"
    r"|big5(_hkscs)?|gb2312|gbk|gb18030|euc_(jp|kr)|shift_jis|sjis|iso_2022_(jp|kr)"
    r"|mac_(roman|cyrillic)|tis_620"
)


@dataclass(frozen=True, slots=True)
class Stats:
    """What a commit changed against its first parent; a binary file has no lines."""

    files: int = 0
    insertions: int = 0
    deletions: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who did it, and when; the offset is in minutes east of Greenwich."""

    name: str = ""
    email: str = ""
    at: datetime | None = None
    offset_minutes: int | None = None


def parse_commit(sha: str, raw: bytes, stats: Stats, *, is_cut: bool = False) -> dict[str, object]:
    """The row of one commit, but for its ``repository_id``.

    ``raw`` is the object, or its beginning if ``is_cut``.
    """
    header, _, message = raw.partition(b"\n\n")
    parents: list[str] = []
    fields: dict[bytes, bytes] = {}
    for line in header.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == b"parent":
            parents.append(value.decode("ascii", "replace"))
        elif key:  # a continued line (of a signature) starts with a space
            fields.setdefault(key, value)
    encoding = fields.get(b"encoding", b"")
    author = parse_identity(fields.get(b"author", b""), encoding)
    committer = parse_identity(fields.get(b"committer", b""), encoding)
    subject, body = split_message(decode(message, encoding))
    return {
        "sha": sha,
        "parents": parents,
        "author_name": author.name,
        "author_email": author.email,
        "authored_at": author.at,
        "author_offset_minutes": author.offset_minutes,
        "committer_name": committer.name,
        "committer_email": committer.email,
        "committed_at": committer.at,
        "committer_offset_minutes": committer.offset_minutes,
        "subject": subject,
        "body": body,
        "body_cut": is_cut or len(message) > TEXT_BYTES_MAX,
        "files": stats.files,
        "insertions": stats.insertions,
        "deletions": stats.deletions,
    }


def parse_identity(line: bytes, encoding: bytes = b"") -> Identity:
    """``Name <e-mail> seconds +hhmm``; the e-mail ends at the first ``>``, as git reads it."""
    before, has_email, rest = line.partition(b"<")
    email, _, _ = rest.partition(b">")
    name = decode(before, encoding).strip()
    if not has_email:
        return Identity(name=name)
    # git takes the date from behind the last ">".
    when = _WHEN.fullmatch(rest.rpartition(b">")[2])
    return Identity(
        name=name,
        email=decode(email, encoding).strip(),
        at=moment(int(when[1])) if when else None,
        offset_minutes=_offset(when[2], when[3]) if when and when[3] else None,
    )


def moment(seconds: int) -> datetime | None:
    """Seconds since 1970 as a time; None outside the years 1 to 9999."""
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
        return None
    return _EPOCH + timedelta(seconds=seconds)


def _offset(sign: bytes, digits: bytes) -> int | None:
    hours, minutes = divmod(int(digits), 100)
    offset = hours * 60 + minutes
    if offset >= 24 * 60:
        return None
    return -offset if sign == b"-" else offset


def split_message(message: str) -> tuple[str, str]:
    """Subject and body as git tells them apart: the first paragraph on one line, and the rest."""
    lines = [line.rstrip(_BLANK) for line in message.split("\n")]
    starts = next((at for at, line in enumerate(lines) if line), len(lines))
    ends = next((at for at in range(starts, len(lines)) if not lines[at]), len(lines))
    follows = next((at for at in range(ends, len(lines)) if lines[at]), len(lines))
    subject = " ".join(lines[starts:ends])
    # The body keeps its own line ends but for the last ones.
    return subject, "\n".join(message.split("\n")[follows:]).rstrip(_BLANK + "\n")


def decode(text: bytes, encoding: bytes) -> str:
    """Text that PostgreSQL takes, whatever the bytes: unreadable ones become U+FFFD.

    It ends after TEXT_BYTES_MAX bytes.

    The encoding that the commit claims is believed if it is a known one and the bytes fit it;
    else they are UTF-8.
    """
    text = text[:TEXT_BYTES_MAX]
    decoded = _as_claimed(text, encoding) if encoding else None
    if decoded is None:
        decoded = text.decode("utf-8", "replace")
    if "\x00" in decoded:
        decoded = decoded.replace("\x00", "\ufffd")
    return decoded


def _as_claimed(text: bytes, encoding: bytes) -> str | None:
    name = encoding.decode("ascii", "replace").strip().lower().replace("-", "_")
    if not _ENCODING.fullmatch(name):
        return None
    try:
        decoded = text.decode(name.replace("windows_", "cp"))
        decoded.encode("utf-8")  # lone surrogates, which some codecs make, are no characters
    except (LookupError, UnicodeError):
        return None
    return decoded


def parse_tag(raw: bytes) -> dict[str, object]:
    """Who made an annotated tag, when, and its subject; ``raw`` is the object or its beginning."""
    header, _, message = raw.partition(b"\n\n")
    lines = (line.partition(b" ") for line in header.split(b"\n"))
    tagger = parse_identity(next((value for key, _, value in lines if key == b"tagger"), b""))
    subject, _ = split_message(decode(message, b""))
    return {
        "tagger_name": tagger.name,
        "tagger_email": tagger.email,
        "tagged_at": tagger.at,
        "subject": subject,
    }


def name_text(raw: bytes) -> str:
    """The name of a file or ref as text, from which its bytes can be had again.

    Nearly all are UTF-8 and stay as they are.  One that is not, or holds control characters, or
    begins with a double quote, becomes what git would write: in double quotes, a backslash
    before a double quote or backslash, and ``\\ooo`` in octal for each of the other odd bytes.
    """
    text = raw.decode("utf-8", "surrogateescape")
    if not _ODD_NAME.search(text):
        return text
    return f'"{_ODD_CHARACTER.sub(_escaped, text)}"'


def _escaped(odd: re.Match[str]) -> str:
    if odd[0] in '"\\':
        return "\\" + odd[0]
    return "".join(f"\\{byte:03o}" for byte in odd[0].encode("utf-8", "surrogateescape"))


def parse_shortstat(line: bytes) -> Stats | None:
    """git's line `` 2 files changed, 3 insertions(+), 1 deletion(-)``; None for any other."""
    match = _SHORTSTAT.match(line)
    if match is None:
        return None
    files, insertions, deletions = (int(count or 0) for count in match.groups())
    return Stats(files, insertions, deletions)
