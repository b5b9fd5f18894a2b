"""`harvestd demo`: the main job on a real repository, from nothing to rows, in a child process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.repositories import a_repository, git
from tests.cli.shell import CHECKOUT, harvestd, shell, talking, terminal
from tests.clusters import open_folder

pytestmark = pytest.mark.slow

SECOND = "second cycle: 0 rows written"
COUNTS = (
    "SELECT tenant_id, count(*)::int AS commits, count(DISTINCT sha)::int AS shas "
    "FROM git.commit GROUP BY 1 ORDER BY 1"
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A HARVESTD_DATA_DIR with a space in its path."""
    with open_folder() as folder:
        yield folder


def table(out: str) -> dict[str, list[str]]:
    """The demo's table: the words of each row by tenant and script."""
    rows = [line.split() for line in out.splitlines()]
    return {f"{row[0]} {row[1]}": row[2:] for row in rows if row[1:2] and "git/" in row[1]}


async def test_the_demo_collects_for_two_tenants_writes_nothing_twice_and_can_be_repeated(
    home: Path,
) -> None:
    repository = a_repository(home / "a clone; of 'mine'")
    for number in range(30):
        git("commit", "--quiet", "--allow-empty", "--message", f"n {number}", cwd=repository)
    arguments = ("demo", "--repo", str(repository))
    first = await harvestd(*arguments, settings={"DATA_DIR": str(home)})
    again = await harvestd(*arguments, "--json", settings={"DATA_DIR": str(home)})
    counts = await harvestd("sql", COUNTS, "--json", settings={"DATA_DIR": str(home / "demo")})

    assert first.code == 0, first.err
    rows = table(first.out)
    scripts = ("activity", "commit", "file_change", "ref", "repository")
    assert sorted(rows) == [
        f"{who} git/{script}" for who in ("acme", "globex") for script in scripts
    ]
    assert rows["acme git/commit"][:3] == ["COMPLETED", "1", "31"]
    assert SECOND in first.out.splitlines()
    told = first.err.splitlines()
    assert any(line.startswith("acme  git/") and line.endswith(" rows in all") for line in told)
    assert (again.code, again.json["second_rows_written"]) == (0, 0)
    assert [run["rows_written"] for run in again.json["first"]] == [0] * len(rows)
    assert counts.json["rows"] == [["acme", 31, 31], ["globex", 31, 31]]


async def test_another_repository_replaces_the_first_and_what_was_loaded_stays(home: Path) -> None:
    settings = {"DATA_DIR": str(home)}
    one = await harvestd("demo", "--repo", str(a_repository(home / "one")), settings=settings)
    two = await harvestd("demo", "--repo", str(a_repository(home / "two")), settings=settings)
    query = "SELECT DISTINCT url FROM git.repository ORDER BY 1"
    urls = await harvestd("sql", query, "--json", settings={"DATA_DIR": str(home / "demo")})

    assert (one.code, two.code) == (0, 0), two.err
    assert table(two.out)["acme git/commit"][2] == "1"
    assert urls.json["rows"] == [[str(home / "one")], [str(home / "two")]]


async def test_the_next_commands_work_when_they_are_pasted(home: Path) -> None:
    demo = await harvestd(
        "demo", "--repo", str(a_repository(home / "clone")), settings={"DATA_DIR": str(home)}
    )
    status, sql, run = (
        line.strip() for line in demo.out.partition("next:\n")[2].splitlines() if line.strip()
    )
    told = await shell(status, CHECKOUT)
    counted = await shell(sql, CHECKOUT)
    pasted = ("sh", "-c", f"exec env HARVESTD_HTTP_ADDRESS=127.0.0.1:0 {run}")
    async with talking(program=pasted) as daemon:
        await daemon.until("catalog_reloaded")
        daemon.send(signal.SIGINT)
        code = await daemon.ended()

    assert told.code == 0, told.err
    assert "git/commit" in told.out
    assert counted.code == 0, counted.err
    assert [line.split()[:2] for line in counted.out.splitlines()[2:4]] == [
        ["acme", "Ada"],
        ["globex", "Ada"],
    ]
    assert code == 0, daemon.said


async def test_outside_a_checkout_the_demo_makes_a_repository_of_its_own(home: Path) -> None:
    # A copy of the package without a checkout around it, as an installed one would be.
    place = home / "installed"
    await shell(f"mkdir '{place}' && cp -r daemon plugins sql '{place}'", CHECKOUT)
    line = f"HARVESTD_DATA_DIR='{home}' PYTHONPATH='{place}/daemon' exec '{sys.executable}'"
    done = await shell(f"{line} -m harvestd demo", home)

    assert done.code == 0, done.err
    assert f"collecting {home / 'demo' / 'repository'}" in done.err
    assert table(done.out)["globex git/commit"][:3] == ["COMPLETED", "1", "60"]
    assert SECOND in done.out.splitlines()


async def test_a_demo_that_was_killed_in_the_middle_goes_on_at_once_and_doubles_nothing(
    home: Path, large: Path
) -> None:
    settings = {"DATA_DIR": str(home)}
    async with talking("demo", "--repo", str(large), settings=settings) as demo:
        await demo.until("commits")
        demo.send(signal.SIGKILL)
        await demo.process.wait()
    done = await harvestd("demo", "--repo", str(large), settings=settings)
    counts = await harvestd("sql", COUNTS, "--json", settings={"DATA_DIR": str(home / "demo")})

    assert done.code == 0, done.err
    assert SECOND in done.out.splitlines()
    assert counts.json["rows"] == [["acme", 12000, 12000], ["globex", 12000, 12000]]


async def test_ctrl_c_ends_the_demo_without_a_traceback_and_without_a_server(
    home: Path, large: Path
) -> None:
    with terminal("demo", "--repo", str(large), settings={"DATA_DIR": str(home)}) as screen:
        await screen.until("/12000 commits")
        screen.type("\x03")
        code = await screen.ended()

    assert code == 130
    assert "interrupted" in screen.said
    assert not (home / "demo" / "pgdata" / "postmaster.pid").exists()


async def test_what_is_no_repository_is_refused_before_anything_is_started(home: Path) -> None:
    done = await harvestd("demo", "--repo", str(home), settings={"DATA_DIR": str(home / "data")})

    assert done.code == 1
    assert "is not a git repository" in done.err
    assert not (home / "data" / "demo" / "pgdata").exists()


@pytest.fixture(scope="module")
def large() -> Iterator[Path]:
    """A repository that takes seconds to collect: 12,000 commits."""
    with open_folder() as folder:
        git("init", "--quiet", cwd=folder)
        history = "".join(
            f"commit refs/heads/main\ncommitter A <a@example.com> {1_700_000_000 + number} +0000\n"
            f"data 2\nn\nM 100644 inline {number % 50}.txt\ndata 6\n{number:05}\n\n"
            for number in range(12_000)
        )
        git("fast-import", "--quiet", cwd=folder, given=history)
        yield folder
