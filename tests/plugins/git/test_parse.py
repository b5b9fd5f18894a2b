"""Raw commits of every kind become rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.data_sources.git import _parse
from plugins.data_sources.git._parse import Identity, Stats, parse_commit, parse_identity

RAW = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"


def test_an_ordinary_commit_fills_every_column() -> None:
    raw = (
        RAW + b"parent " + b"a" * 40 + b"\nparent " + b"b" * 40 + b"\n"
        b"author Ada L. <ada@example.org> 1767571200 +0530\n"
        b"committer Carl <carl@example.org> 1767571260 -0330\n"
        b"gpgsig -----BEGIN\n author Mallory <m@x> 1 +0000\n -----END\n"
        b"\nSubject line\ncontinued\n\nBody\r\n\n  indented\n\n"
    )

    row = parse_commit("c" * 40, raw, Stats(3, 20, 1))

    assert row == {
        "sha": "c" * 40,
        "parents": ["a" * 40, "b" * 40],
        "author_name": "Ada L.",
        "author_email": "ada@example.org",
        "authored_at": datetime(2026, 1, 5, 0, 0, tzinfo=UTC),
        "author_offset_minutes": 330,
        "committer_name": "Carl",
        "committer_email": "carl@example.org",
        "committed_at": datetime(2026, 1, 5, 0, 1, tzinfo=UTC),
        "committer_offset_minutes": -210,
        "subject": "Subject line continued",
        "body": "Body\r\n\n  indented",
        "body_cut": False,
        "files": 3,
        "insertions": 20,
        "deletions": 1,
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", Identity()),
        (b"Ada", Identity(name="Ada")),
        (b" <> 31536000 +0000", Identity(at=datetime(1971, 1, 1, tzinfo=UTC), offset_minutes=0)),
        (
            b"A <a@x> 2051222400 +1245",
            Identity("A", "a@x", datetime(2035, 1, 1, tzinfo=UTC), 765),
        ),
        (b"A <a@x> -1 -0000", Identity("A", "a@x", datetime(1969, 12, 31, 23, 59, 59, 0, UTC), 0)),
        (b"A <a@x> 99999999999999999999 +0000", Identity("A", "a@x", None, 0)),
        (b"A <a@x> 253402300799 +0000", Identity("A", "a@x", None, 0)),
        (b"A <a@x> -62135596800 +0000", Identity("A", "a@x", None, 0)),
        (b"A <a@x> 0 +051800", Identity("A", "a@x", datetime(1970, 1, 1, tzinfo=UTC), None)),
        (b"A <a@x> 0", Identity("A", "a@x", datetime(1970, 1, 1, tzinfo=UTC), None)),
        (b"A <a@x> Thu Jan 1 1970", Identity("A", "a@x")),
        (b"A <a@x", Identity("A", "a@x")),
        (b"A <a<b@x>> 0 +0100", Identity("A", "a<b@x", datetime(1970, 1, 1, tzinfo=UTC), 60)),
    ],
)
def test_absurd_dates_and_identities_load_as_far_as_they_go(
    line: bytes, expected: Identity
) -> None:
    assert parse_identity(line) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("Grüße".encode("latin-1"), b"ISO-8859-1", "Grüße"),
        ("Grüße".encode("latin-1"), b"latin1", "Grüße"),
        ("“Grüße”".encode("cp1252"), b"windows-1252", "“Grüße”"),
        ("日本".encode("shift_jis"), b"Shift_JIS", "日本"),
        ("日本".encode("iso2022_jp"), b"ISO-2022-JP", "日本"),
        ("привет".encode("koi8_r"), b"KOI8-R", "привет"),
        ("Grüße".encode(), b"ISO-2022-JP", "Grüße"),
        ("Grüße".encode("latin-1"), b"", "Gr\ufffd\ufffde"),
        (b"plain", b"zlib", "plain"),
        (b"plain", b"punycode", "plain"),
        (b"plain", b"\xff\xfe", "plain"),
        (b"a\x00b", b"", "a\ufffdb"),
    ],
)
def test_text_of_any_encoding_becomes_text_that_postgresql_takes(
    text: bytes, encoding: bytes, expected: str
) -> None:
    assert _parse.decode(text, encoding) == expected


@pytest.mark.parametrize(
    ("message", "subject", "body"),
    [
        ("", "", ""),
        ("\n\n", "", ""),
        ("one", "one", ""),
        ("\n \none  \ntwo\n", "one two", ""),
        ("one\r\n\r\nbody\r\n", "one", "body"),
        ("one\n\n\n\nbody\n\nmore\n", "one", "body\n\nmore"),
    ],
)
def test_the_first_paragraph_is_the_subject_and_the_rest_the_body(
    message: str, subject: str, body: str
) -> None:
    assert _parse.split_message(message) == (subject, body)


def test_a_message_beyond_the_limit_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parse, "TEXT_BYTES_MAX", 10)

    row = parse_commit("c" * 40, RAW + b"\none\n\n0123456789", Stats())

    assert (row["subject"], row["body"], row["body_cut"]) == ("one", "01234", True)


@pytest.mark.parametrize(
    ("line", "stats"),
    [
        (b" 1 file changed, 1 insertion(+)\n", Stats(1, 1, 0)),
        (b" 2 files changed, 1 deletion(-)\n", Stats(2, 0, 1)),
        (b" 12 files changed, 345 insertions(+), 6 deletions(-)\n", Stats(12, 345, 6)),
        (b" 1 file changed, 0 insertions(+), 0 deletions(-)\n", Stats(1, 0, 0)),
        (b"a" * 40 + b"\n", None),
    ],
)
def test_the_numbers_of_a_commit_are_read_from_one_line(line: bytes, stats: Stats | None) -> None:
    assert _parse.parse_shortstat(line) == stats


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_fail_to_become_a_row(raw: bytes) -> None:
    row = parse_commit("c" * 40, raw, Stats())

    for value in row.values():
        if isinstance(value, str):
            value.encode("utf-8")
            assert "\x00" not in value
