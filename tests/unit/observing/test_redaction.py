"""What the redactor masks, and what it leaves alone."""

from __future__ import annotations

import base64
import gc
import json
import threading
from urllib.parse import quote, quote_plus

import pytest

from harvestd.observing.redaction import (
    MASK,
    SECRET_CHARS_MIN,
    Redactor,
    current_redactor,
    redact,
)

SECRET = 'p/ss+wörd "x"\\9'


def without_values(text: str) -> str:
    return Redactor().clean(text)


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        "p%2fss%2bw%c3%b6rd%20%22x%22%5c9",
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
    ],
)
def test_a_value_is_masked_in_every_usual_spelling(spelling: str) -> None:
    assert spelling not in Redactor([SECRET]).clean(f"before {spelling} after")
    assert Redactor([SECRET]).clean(f"before {spelling} after").startswith(f"before {MASK}")


@pytest.mark.parametrize("user", ["", "a:", "ab:", "abc:"])
def test_a_value_inside_a_longer_base64_text_is_masked_at_every_alignment(user: str) -> None:
    token = "tok-3141592653589793"
    encoded = base64.b64encode(f"{user}{token}:tail".encode()).decode()

    cleaned = Redactor([token]).clean(encoded)

    assert MASK in cleaned
    assert len(cleaned.replace(MASK, "")) < 16


def test_values_under_eight_characters_are_left_alone() -> None:
    assert Redactor(["main", "1234567"]).clean("branch main 1234567") == "branch main 1234567"
    assert Redactor(["12345678"]).clean("n 12345678") == f"n {MASK}"
    assert SECRET_CHARS_MIN == 8


def test_overlapping_secrets_are_masked_as_a_whole() -> None:
    redactor = Redactor(["abcdefgh1234", "1234zzzz5678"])

    assert redactor.clean("<abcdefgh1234zzzz5678>") == f"<{MASK}>"


def test_a_secret_that_holds_another_is_masked_as_a_whole() -> None:
    redactor = Redactor(["abcdefgh", "xxabcdefghxx"])

    assert redactor.clean("xxabcdefghxx abcdefgh") == f"{MASK} {MASK}"


def test_each_line_of_a_key_and_each_string_of_a_json_value_counts() -> None:
    key = "FIRSTLINE0123456\nSECONDLINE789012\n"
    redactor = Redactor(
        [key, json.dumps({"a": {"private": "nested-secret"}, "n": [1, "in-a-list"]})]
    )

    for part in ("FIRSTLINE0123456", "SECONDLINE789012", "nested-secret", "in-a-list"):
        assert part not in redactor.clean(f"printed {part} alone")


def test_a_secret_across_the_cut_of_a_long_text_is_masked() -> None:
    secret = "s3cr3t-" * 4
    for lead in range(90, 130):
        cleaned = Redactor([secret]).clean("." * lead + secret + "tail" * 50, chars_max=100)
        assert "s3cr" not in cleaned
        assert "tail" not in cleaned


def test_secrets_before_the_cut_pull_nothing_into_sight() -> None:
    secret = "s3cr3t-" * 40
    text = secret * 4 + secret[:-1]

    assert "s3cr" not in Redactor([secret]).clean(text, chars_max=len(secret) * 4 - 3)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET https://ann:hunter2@host/x failed", "hunter2"),
        ("postgresql://ann:p@ss:w0rd@db:5432/x", "p@ss:w0rd"),
        ("postgresql://ann:p@ss:w0rd@db:5432/x", "ss:w0rd"),
        ("https://longusername:p@ssword@host/x", "ssword"),
        ("fatal: https://0123456789abcdef@github.com/o/r", "0123456789abcdef"),
        ("Authorization: Bearer xyz", "xyz"),
        ("bearer eyJx.y", "eyJx.y"),
        ("'authorization': 'token abcdef12'", "abcdef12"),
        ("Basic dXNlcjpwYXNz0", "dXNlcjpwYXNz0"),
        ("ghp_" + "a1" * 18, "a1a1"),
        ("ghs_" + "a1" * 18, "a1a1"),
        ("github_pat_" + "b2" * 20, "b2b2"),
        ("glpat-" + "c3" * 10, "c3c3"),
        ("xoxb-123456789012-abc", "123456789012"),
        ("ATATT3x" + "d4" * 20, "d4d4"),
        ("AKIAABCDEFGHIJKLMNOP", "ABCDEFGH"),
        ("sk_live_" + "e5" * 10, "e5e5"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nxyz\n-----END RSA PRIVATE KEY-----", "MIIEabc"),
        ("-----BEGIN PRIVATE KEY-----\\nMIIEabc", "MIIEabc"),
        ("/callback?code=1&access_token=tttt&x=1", "tttt"),
        ("host=db password=hunter2 user=ann", "hunter2"),
        ('{"password": "hunter2"}', "hunter2"),
        ('{\\"client_secret\\":\\"hunter2\\"}', "hunter2"),
    ],
)
def test_what_looks_like_a_credential_is_masked_always(text: str, secret: str) -> None:
    cleaned = without_values(text)

    assert secret not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "ssh://git@github.com/o/r",
        "http://127.0.0.1:9464/metrics",
        "https://github.com/o/r?page=2",
        "cloning https://host/team/repo into /var/cache/x",
        "a basic authentication error",
        "5 tokens left, password refused",
        "ann@example.com wrote 12:30",
        "sha 2f1c3b5a9d8e7f60112233445566778899aabbcc",
    ],
)
def test_ordinary_texts_are_left_alone(text: str) -> None:
    assert without_values(text) == text


def test_the_host_and_the_scheme_stay_readable() -> None:
    assert without_values("https://ann:hunter2@host/x") == f"https://{MASK}@host/x"
    assert without_values("Bearer xyz!") == f"Bearer {MASK}"


def test_redact_uses_the_redactor_of_the_context() -> None:
    token = current_redactor.set(Redactor(["canary-one-two"]))
    try:
        assert redact("canary-one-two") == MASK
    finally:
        current_redactor.reset(token)


def test_a_thread_without_context_is_redacted_by_every_living_run() -> None:
    redactor = Redactor(["canary-living-run"])
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(redact("x canary-living-run")))
    thread.start()
    thread.join()
    assert seen == [f"x {MASK}"]

    del redactor
    gc.collect()
    assert redact("x canary-living-run") == "x canary-living-run"


def test_a_redactor_shows_no_secret_in_its_representation() -> None:
    assert "canary" not in repr(Redactor(["canary-one-two"]))


def test_ten_megabytes_are_cleaned_without_delay() -> None:
    text = "a:b@c d=e/" * 1_000_000

    assert Redactor(["canary-one-two"]).clean(text, chars_max=8192) == text[:8192]


@pytest.mark.parametrize("text", ["://" * 3000, "https://" + "a:" * 4000, "-----BEGIN " * 800])
def test_no_text_makes_the_shapes_slow(text: str) -> None:
    # Each would take minutes with a pattern that backtracks without bound; the suite's
    # own limit is the judge.
    assert without_values(text)
