"""Git as a child: bounded, silent about secrets, and gone when we are."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from plugins.data_sources.git import _access, _git
from plugins.data_sources.git._address import Repository
from plugins.data_sources.git._reasons import Denied, explained

from tests.plugins.git.world import git_for, repository_at, until_gone

TOKEN = "s3cret/token+with=signs"


@pytest.fixture
def git(tmp_path: Path) -> _git.Git:
    return git_for(repository_at(tmp_path), tmp_path / "cache")


def shell(script: str) -> list[str]:
    """Arguments that make git run a shell script, which stands for a git that misbehaves."""
    return ["-c", f"alias.script=!{script}", "script"]


async def test_leaving_the_block_ends_the_whole_group(git: _git.Git) -> None:
    script = "sleep 600 & echo $(cut -d' ' -f5 /proc/self/stat); wait"
    async with git.started(shell(script), limit=_git.LOCAL) as child:
        group = int(await child.read_line())
        assert group not in (0, os.getpgrp())

    await until_gone(group)


async def test_a_group_that_ignores_sigterm_is_killed_after_the_grace(
    git: _git.Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_git, "GRACE_SECONDS", 0.2)
    script = "trap '' TERM; echo $(cut -d' ' -f5 /proc/self/stat); while :; do sleep 1; done"
    async with git.started(shell(script), limit=_git.LOCAL) as child:
        group = int(await child.read_line())

    await until_gone(group)


async def test_a_child_with_unread_output_can_be_cancelled(git: _git.Git) -> None:
    groups: asyncio.Queue[int] = asyncio.Queue()

    async def read_a_little() -> None:
        script = "echo $(cut -d' ' -f5 /proc/self/stat); yes"
        async with git.started(shell(script), limit=_git.LOCAL) as child:
            await groups.put(int(await child.read_line()))
            await asyncio.Event().wait()

    reading = asyncio.create_task(read_a_little())
    group = await asyncio.wait_for(groups.get(), 20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await until_gone(group)


async def test_a_command_that_takes_too_long_is_ended_with_its_reason(git: _git.Git) -> None:
    limit = _git.Limit(seconds=0.2)

    with pytest.raises(_git.GitError, match=r"git script was ended; why: it took 0\.2 s; next"):
        await git.run(shell("sleep 600"), limit=limit)


async def test_silence_ends_a_command_that_should_tell_its_progress(git: _git.Git) -> None:
    limit = _git.Limit(seconds=600, silent_seconds=0.3)

    with pytest.raises(_git.GitError, match=r"it said nothing for 0\.3 s"):
        await git.run(shell("echo working >&2; sleep 600"), limit=limit)
    talking = "for i in 1 2 3 4 5 6; do printf 'Receiving objects: %s\\r' $i >&2; sleep 0.1; done"
    assert await git.run(shell(talking), limit=limit) == ""


async def test_a_command_cannot_fill_the_disk(git: _git.Git, tmp_path: Path) -> None:
    limit = _git.Limit(seconds=60, file_bytes=100_000)
    script = f"head -c 1000000 /dev/zero >'{tmp_path}/large'"

    with pytest.raises(_git.CommandFailed):
        await git.run(shell(script), limit=limit)

    assert (tmp_path / "large").stat().st_size <= 100_000


async def test_noise_is_bounded_printable_and_without_progress(git: _git.Git) -> None:
    script = (
        "printf 'remote: Counting objects: 9\\rReceiving objects: 50%%\\r' >&2;"
        " for i in $(seq 1000); do echo line $i; done >&2; head -c 100000 /dev/zero >&2;"
        " printf '\\033[31mred\\n' >&2; exit 3"
    )

    with pytest.raises(_git.CommandFailed) as failed:
        await git.run(shell(script))

    noise = failed.value.noise
    assert failed.value.status == 3
    assert "objects" not in noise
    assert noise.isprintable()
    assert len(noise) < _git.NOISE_LINES * (_git.NOISE_LINE_CHARACTERS + 3)
    assert "line 1000" in noise


async def test_no_error_repeats_a_secret_in_any_spelling(tmp_path: Path) -> None:
    repository = Repository("https://example.org/a", "example.org", "ada", "p@ssw0rd")
    home = _access.prepare(tmp_path, [repository])
    git = _access.git_for(repository, home=home, token=TOKEN)
    script = (
        "echo https://ada:p@ssw0rd@example.org https://x:other@host/ YWRhOnBAc3N3MHJk p%40ssw0rd"
        " >&2; exit 1"
    )

    with pytest.raises(_git.CommandFailed) as failed:
        await git.run(shell(script))

    for secret in ("p@ssw0rd", "other", "YWRhOnBAc3N3MHJk", "p%40ssw0rd"):
        assert secret not in str(failed.value)
    assert "p@ssw0rd" not in repr(git)


@pytest.mark.parametrize("token", ["two\nlines", "ünicode", "x" * 5000])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(
    token: str, tmp_path: Path
) -> None:
    repository = Repository("https://example.org/a", "example.org")

    with pytest.raises(_git.GitError, match="GIT_TOKEN is refused") as refused:
        _access.git_for(repository, home=tmp_path, token=token)

    assert token not in str(refused.value)


def test_only_https_receives_the_token(tmp_path: Path) -> None:
    for url in ("/srv/git/a", "ssh://git@example.org/a", "git@example.org:a"):
        git = _access.git_for(Repository(url), home=tmp_path, token=TOKEN)
        assert TOKEN not in " ".join(git.environment.values())


@pytest.mark.parametrize(
    ("noise", "kind", "said"),
    [
        ("fatal: Authentication failed for 'https://example.org/a/'", Denied, "denied access"),
        ("fatal: could not read Username for 'https://example.org': x", Denied, "denied access"),
        ("git@example.org: Permission denied (publickey).", Denied, "denied access"),
        ("fatal: unable to access: The requested URL returned error: 403", Denied, "denied"),
        ("Host key verification failed.", _git.GitError, "not a known one"),
        ("remote: Repository not found.", _git.GitError, "there is no repository"),
        ("fatal: repository 'https://example.org/a/' not found", _git.GitError, "there is no"),
        ("fatal: unable to access: Could not resolve host: x", _git.GitError, "be reached"),
        ("error: RPC failed; HTTP 500 curl 22 returned error: 500", _git.GitError, "be reached"),
        ("fatal: index-pack died of signal 25", _git.GitError, "larger than"),
        ("fatal: inflate: out of memory", _git.GitError, "larger than"),
        ("remote: fatal: inflate: out of memory", _git.GitError, "cannot be read"),
        ("fatal: write error: No space left on device", _git.GitError, "there is no room"),
        ("fatal: whatever", _git.GitError, "cannot be read"),
    ],
)
def test_what_git_says_is_told_apart_by_what_mends_it(
    noise: str, kind: type[_git.GitError], said: str
) -> None:
    error = explained(
        _git.CommandFailed("fetch", 128, noise), Repository("https://example.org/a", "example.org")
    )

    assert type(error) is kind
    assert said in error.what
    assert error.next_step


async def test_a_machine_without_git_says_what_to_install(tmp_path: Path) -> None:
    git = _git.Git({"PATH": str(tmp_path)})

    with pytest.raises(_git.GitError, match=r"git is not installed; why: .*; next: install git"):
        await git.run(["version"])
