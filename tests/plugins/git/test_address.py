"""GIT_REPOSITORIES: what is admitted, what is refused, and what becomes of credentials."""

from __future__ import annotations

import pytest
from plugins.data_sources.git._address import Repository, parse_repositories
from plugins.data_sources.git._git import GitError


def parse_one(text: str, *, local_allowed: bool = False) -> Repository:
    [repository] = parse_repositories(text, local_allowed=local_allowed)
    return repository


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("HTTPS://Example.ORG:443/a/B.git/", "https://example.org/a/B.git"),
        ("https://example.org:8443/a", "https://example.org:8443/a"),
        ("https://[2001:DB8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ("ssh://git@Example.org:22/a/b", "ssh://git@example.org/a/b"),
        ("ssh://git@example.org:2222/a/b/", "ssh://git@example.org:2222/a/b"),
        ("git@Example.org:a/b.git", "git@example.org:a/b.git"),
        ("git@[2001:DB8::1]:a/b/", "git@[2001:db8::1]:a/b"),
    ],
)
def test_spellings_of_one_address_become_one_url(text: str, url: str) -> None:
    assert parse_one(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c touch% /tmp/owned",
        "fd::17",
        "https::https://example.org/a",
        "--upload-pack=touch /tmp/owned",
        "http://example.org/a",
        "git://example.org/a",
        "ftp://example.org/a",
        "https://example.org",
        "https:///a",
        "https://-oProxyCommand=x/a",
        "https://exa mple.org/a",
        "https://example.org/a?token=x",
        "https://example.org/a#x",
        "https://example.org:port/a",
        "https://good.example\\@/a",
        "ssh://-oProxyCommand=x/a",
        "ssh://-x@example.org/a",
        "ssh://git:secret@example.org/a",
        "-oProxyCommand=x:a",
        "git@-oProxyCommand=x:a",
        "git@example.org:-x",
        "file:/srv/git/a",
        "HTTPS:/example.org/a",
        "ssh:example.org/a",
        "relative/path",
        "/srv/git/a",
        "file:///srv/git/a",
        "https://example.org/a\nb",
    ],
)
def test_what_git_could_take_for_more_than_an_address_is_refused(text: str) -> None:
    quoted = "'" + text + "'"

    with pytest.raises(GitError, match=r"address 1 of GIT_REPOSITORIES is refused; why: .*; next"):
        parse_repositories(quoted, local_allowed=False)


@pytest.mark.parametrize("text", ["file://relative", "file://host/a", "srv/git", "file:///a%0ab"])
def test_a_local_path_must_be_absolute_and_printable(text: str) -> None:
    with pytest.raises(GitError, match="is refused"):
        parse_repositories(text, local_allowed=True)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("https://u:p@example.org:8443/a/b:c", "example.org:8443"),
        ("ssh://git@example.org/a", "git@example.org"),
        ("git@example.org:a/b:c", "git@example.org"),
        ("[2001:db8::1]:a/b", "[2001:db8::1]"),
        ("/srv/git/a", ""),
    ],
)
def test_repositories_of_one_server_are_known_by_it(text: str, server: str) -> None:
    assert parse_one(text, local_allowed=True).server == server


def test_local_paths_are_admitted_where_the_operator_allows_them() -> None:
    repositories = parse_repositories(
        "'/srv/a b/' file:///srv/a%20b /srv//x/../c //srv/d", local_allowed=True
    )

    assert [each.url for each in repositories] == ["/srv/a b", "/srv/c", "/srv/d"]
    assert all(each.is_local and each.transport == "file" for each in repositories)


def test_credentials_leave_the_url_and_keep_the_id() -> None:
    plain = parse_one("https://example.org/a")
    secret = parse_one("https://ada:p%40ss@example.org/a")

    assert (secret.url, secret.id) == (plain.url, plain.id)
    assert (secret.username, secret.password, secret.host) == ("ada", "p@ss", "example.org")
    assert "p@ss" not in repr(secret)
    assert "ada" not in repr(secret)


def test_the_words_are_split_like_a_shell_line_and_each_counts_once() -> None:
    repositories = parse_repositories(
        "https://example.org/a\n  'https://example.org/a/' ssh://example.org/a",
        local_allowed=False,
    )

    assert [each.transport for each in repositories] == ["https", "ssh"]


@pytest.mark.parametrize("text", ["", "   ", "'unfinished"])
def test_a_value_without_an_address_says_what_to_set(text: str) -> None:
    with pytest.raises(GitError, match="next: "):
        parse_repositories(text, local_allowed=True)


def test_a_refusal_never_repeats_the_address() -> None:
    with pytest.raises(GitError) as refused:
        parse_repositories("http://ada:secret@example.org/a", local_allowed=False)

    assert "secret" not in str(refused.value)
