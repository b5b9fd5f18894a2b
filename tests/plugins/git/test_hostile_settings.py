"""What tenants may put into GIT_REPOSITORIES and GIT_TOKEN against the daemon and each other."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from plugins.data_sources.git._address import TEXT_CHARACTERS_MAX, Repository, parse_repositories
from plugins.data_sources.git._git import GitError

from harvestd.execution.runner import cache_folder
from tests.builders import a_tenant, query
from tests.daemons import cycle, running_app
from tests.plugins.git.world import an_upstream

HOSTILE = [
    *("/proc/self/root", "/proc/self/cwd", "file:///etc/passwd", "//host/x", "/tmp/*", "~/x"),
    *("ext::sh -c 'touch OWNED'", "--upload-pack=touch OWNED", "$(touch OWNED)", "`touch OWNED`"),
    *("ssh://-oProxyCommand=touch%20OWNED/x", "git@-oProxyCommand=x:y", "a@127.0.0.1:/x;id"),
    *("https://127.0.0.1:1/a;b|c&d'\"", "https://127.0.0.1:1/" + "a" * 1900, "https://[::1]:1/x"),
    *("https://xn--\u0430.example/x", "/\u2028x", "''", "'", "\\", "\n\n", "/" + "d/" * 900),
    *("https://u%0aurl=http://x:p@127.0.0.1:1/x", "https://u%00:p@127.0.0.1:1/x"),
    *("https://127.0.0.1:1/%2e%2e/%00", "file:///tmp/%00"),
]


@pytest.mark.parametrize("control", ["%00", "%0a", "%0D%0A", "%1b", "%7f", "%C2%85"])
@pytest.mark.parametrize(
    "address",
    [
        "https://ada{}:pass@example.org/a",
        "https://ada:pa{}ss@example.org/a",
        "https://example{}.org/a",
        "https://example.org/a{}b",
        "ssh://ada{}@example.org/a",
        "ssh://example.org/a{}b",
        "file:///a{}b",
    ],
)
def test_a_control_character_behind_a_percent_sign_is_refused(address: str, control: str) -> None:
    with pytest.raises(GitError, match=r"control characters|printable") as refused:
        parse_repositories(address.format(control), local_allowed=True)

    assert "pass" not in str(refused.value)


def test_other_escapes_in_credentials_and_paths_are_admitted() -> None:
    [one, two] = parse_repositories(
        "https://ada%40x:p%3Ass%C3%A9@example.org/a%20b ssh://example.org/a%7Eb",
        local_allowed=False,
    )

    assert (one.username, one.password) == ("ada@x", "p:ss\u00e9")
    assert [one.url, two.url] == ["https://example.org/a%20b", "ssh://example.org/a%7Eb"]


@pytest.mark.parametrize("text", ["/a\0b", "file:///a%00b", "https://example.org/\0"])
def test_a_path_with_a_nul_is_refused_before_the_system_sees_it(text: str) -> None:
    with pytest.raises(GitError, match=r"control characters|printable"):
        parse_repositories(text, local_allowed=True)


@pytest.mark.parametrize("unit", ["a", "a ", "\\a", "'a' "])
def test_a_megabyte_is_refused_before_it_is_split(unit: str) -> None:
    # Split, it would take seconds; the number in the error is of what was not split.
    with pytest.raises(GitError, match=r"1,000,000 characters.*100,000 are admitted"):
        parse_repositories(unit * (1_000_000 // len(unit)), local_allowed=True)


def test_as_much_as_is_admitted_is_split() -> None:
    with pytest.raises(GitError, match="too long"):
        parse_repositories("a" * TEXT_CHARACTERS_MAX, local_allowed=True)


async def test_the_mirror_of_one_tenant_is_no_upstream_of_another(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "private")
    upstream.chain(3)
    await a_tenant(database_url, "acme", {"git": {"GIT_REPOSITORIES": str(upstream.path)}})
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)
        shutil.rmtree(upstream.path)  # what is left of it are acme's rows and mirror
        own = cache_folder(tmp_path / "data" / "cache", "acme", "git")
        mirror = own / "mirrors" / f"{Repository(str(upstream.path)).id}.git"
        (tmp_path / "link").symlink_to(mirror)
        for number, way in enumerate(
            [mirror, f"file://{mirror}", tmp_path / "link", f"/proc/self/root{mirror}", own]
        ):
            address = shlex.quote(str(way))
            await a_tenant(database_url, f"bolt{number}", {"git": {"GIT_REPOSITORIES": address}})
        await cycle(app)

    rows = await query(database_url, "SELECT DISTINCT tenant_id FROM git.commit")
    assert [row["tenant_id"] for row in rows] == ["acme"]
    errors = await query(
        database_url,
        "SELECT error FROM data_source_run WHERE tenant_id <> 'acme' AND script = 'repository'",
    )
    assert len(errors) == 5
    assert all("it lies in harvestd's own cache" in row["error"] for row in errors)


async def test_hostile_settings_fail_their_own_runs_with_a_reason_and_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    upstream = an_upstream(tmp_path / "upstream")
    upstream.chain(2)
    await a_tenant(database_url, "good", {"git": {"GIT_REPOSITORIES": str(upstream.path)}})
    for number, value in enumerate(HOSTILE):
        config = {"GIT_REPOSITORIES": value, "GIT_TOKEN": "$(touch OWNED)`'\""}
        await a_tenant(database_url, f"bad{number}", {"git": config})
    async with running_app(database_url, tmp_path) as app:
        await cycle(app)

    rows = await query(
        database_url,
        "SELECT tenant_id, status::text AS word, error FROM data_source_run"
        " WHERE script = 'repository'",
    )
    ended = {row["tenant_id"]: row for row in rows}
    assert ended.pop("good")["word"] == "COMPLETED"
    assert {row["word"] for row in ended.values()} == {"FAILED"}
    assert len(ended) == len(HOSTILE)
    for row in ended.values():
        assert "; why: " in row["error"], row
    assert files_called("OWNED", tmp_path, Path.cwd()) == []


def files_called(name: str, *folders: Path) -> list[Path]:
    """What lies directly in the folders under that name."""
    return [folder / name for folder in folders if (folder / name).exists()]
