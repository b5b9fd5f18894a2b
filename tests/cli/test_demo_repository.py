"""Which repository the demo collects, and the one that it makes when there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harvestd.cli.demo_repository import (
    choose_repository,
    find_repository,
    has_commit,
    seed_repository,
)
from harvestd.cli.output import Unknown
from harvestd.errors import HarvestdError
from tests.cli.repositories import a_repository, git
from tests.cli.shell import CHECKOUT, environment


def test_the_seeded_repository_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    heads = set()
    for name in ("one", "the other"):
        folder = seed_repository(tmp_path / name / "repository")
        heads.add(git("rev-parse", "HEAD", cwd=folder))
    log = git("log", "--format=%an|%ad", "--date=short", cwd=folder).splitlines()

    assert len(heads) == 1
    assert len(log) == 60
    assert len({line.partition("|")[0] for line in log}) == 3
    assert (log[-1][-10:], log[0][-10:]) == ("2026-01-05", "2026-02-14")
    assert git("status", "--porcelain", cwd=folder) == ""


def test_a_seeded_repository_is_kept_and_a_half_made_one_made_anew(tmp_path: Path) -> None:
    folder = seed_repository(tmp_path / "repository")
    head = git("rev-parse", "HEAD", cwd=folder)
    (folder / "mine.txt").write_text("kept")
    seed_repository(folder)
    kept = (folder / "mine.txt").exists()
    half = tmp_path / "half"
    half.mkdir()
    git("init", "--quiet", cwd=half)
    (tmp_path / "half.making").mkdir()
    seed_repository(half)

    assert kept
    assert git("rev-parse", "HEAD", cwd=half) == head


def test_a_repository_is_found_from_a_folder_below_it_and_when_it_is_bare(tmp_path: Path) -> None:
    repository = a_repository(tmp_path / "a clone")
    below = repository / "src" / "deep"
    below.mkdir(parents=True)
    git("clone", "--quiet", "--bare", str(repository), str(tmp_path / "bare"), cwd=tmp_path)

    assert find_repository(below) == repository
    assert find_repository(tmp_path / "bare") == tmp_path / "bare"
    assert choose_repository(str(below), tmp_path / "data") == str(repository)


def test_the_repository_around_the_current_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = a_repository(tmp_path / "mine")
    monkeypatch.chdir(repository)
    # What points git elsewhere is no business of the demo's.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))

    assert choose_repository(None, tmp_path / "data") == str(repository)


def test_outside_a_checkout_a_repository_is_seeded_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "site-packages" / "harvestd"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("harvestd.__file__", str(elsewhere / "__init__.py"))
    chosen = choose_repository(None, tmp_path / "data")

    assert chosen == str(tmp_path / "data" / "repository")
    assert has_commit(Path(chosen))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("missing", "does not exist"),
        ("plain", "is not a git repository"),
        ("file", "is not a git repository"),
        ("unborn", "has no commit"),
        (os.fsdecode(b"caf\xe9"), "cannot be kept"),
    ],
)
def test_what_was_asked_for_and_is_no_repository_is_refused(
    tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "unborn").mkdir()
    git("init", "--quiet", cwd=tmp_path / "unborn")
    a_repository(tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(Unknown, match=what) as refused:
        choose_repository(str(tmp_path / name), tmp_path / "data")

    assert "make demo REPO=" in refused.value.next_step
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("address", ["https://host/a/b.git", "ssh://git@host/a", "git@host:a/b"])
def test_an_address_is_left_to_the_data_source(tmp_path: Path, address: str) -> None:
    assert choose_repository(address, tmp_path) == address


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("http://host/canary", "does not collect by http"),
        ("file:///canary", "does not collect by file"),
        ("ext::sh -c canary", "does not exist"),
        ("https://token-canary@host/a", "no user or password in an address"),
        ("ssh://git:canary@host/a", "no user or password in an address"),
    ],
)
def test_an_address_that_is_not_admitted_is_refused_and_no_secret_repeated(
    tmp_path: Path, address: str, what: str
) -> None:
    with pytest.raises(Unknown, match=what) as refused:
        choose_repository(address, tmp_path)

    assert "REPO=/path/to/clone" in refused.value.next_step
    assert what.startswith("does") or "canary" not in str(refused.value)


@pytest.mark.parametrize("repo", ["", "/a b/c", '/a "quoted" b', "/a/$HOME/$x$$", "/it's/`id`"])
def test_make_hands_the_repository_to_the_demo_as_it_was_typed(repo: str) -> None:
    done = subprocess.run(
        ["make", "--silent", "-o", "setup", "demo", "PY=printf '%s\\n'", f"REPO={repo}"],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == ["-m", "harvestd", "demo"] + [f"--repo={repo}"] * bool(repo)


def test_without_git_the_next_step_is_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarvestdError, match="git is not installed"):
        choose_repository(None, tmp_path)
