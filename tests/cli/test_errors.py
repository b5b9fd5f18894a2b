"""What went wrong is said in three lines, with an exit code that scripts can go by."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import query
from tests.cli.shell import CHECKOUT, command, environment, harvestd

NOBODY = "postgresql://harvestd:canary-password-77@127.0.0.1:{port}/harvestd"


@pytest.fixture
def unused_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["tenant", "add", "acme"],
        ["migrate"],
        ["run", "--once"],
    ],
    ids=" ".join,
)
async def test_a_database_that_does_not_answer_is_exit_code_three(
    unused_port: int, arguments: list[str]
) -> None:
    url = NOBODY.format(port=unused_port)
    done = await harvestd(*arguments, url=url, given="value")

    assert (done.code, done.out) == (3, "")
    lines = done.err.splitlines()
    assert lines[0].startswith("harvestd: PostgreSQL cannot be reached")
    assert lines[1].startswith("  why:  ")
    assert lines[2].startswith("  next: ")
    assert lines[0].endswith(f" at 127.0.0.1:{unused_port}")
    assert "nobody listens" in lines[1]
    assert "by itself" not in done.err  # only the daemon tries again
    assert "canary-password-77" not in done.err


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["statsu"], {}, "did you mean 'harvestd status'?"),
        (["status", "--jsn"], {}, "did you mean --json?"),
        (["tenant"], {"DATA_DIRR": "/x"}, None),
        (["status"], {"DATA_DIRR": "/x"}, "did you mean HARVESTD_DATA_DIR?"),
        (["status"], {"DATABASE_URL": ""}, "HARVESTD_DATABASE_URL"),
        (["config", "set", "acme"], {}, "from standard input"),
        (["trigger", "--source", "git"], {}, "need a TENANT"),
        (["run", "--json"], {}, "--json needs --once"),
        (["tenant", "list", "--limit", "0"], {}, "--limit"),
        (["tenant", "list", "--limit", "1.5"], {}, "'1.5' is no whole number"),
        (["torture", "--seed", "1.5"], {}, "'1.5' is no whole number"),
        (["torture", "--schedules", "2.5"], {}, "'2.5' is no whole number"),
    ],
    ids=str,
)
async def test_a_mistake_in_usage_or_settings_is_exit_code_two(
    arguments: list[str], settings: dict[str, str], said: str | None
) -> None:
    done = await harvestd(*arguments, settings=settings)

    if said is None:  # help needs no settings
        assert done.code == 0
        return
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "  next: " in done.err


async def test_reading_where_nothing_was_ever_started_makes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "never started"
    done = await harvestd("status", settings={"DATA_DIR": str(folder)})

    assert done.code == 1
    assert "there is no database in" in done.err
    assert not folder.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("trigger",),
        ("tenant", "pause", "acme"),
        ("reset", "acme", "--yes"),
        ("config", "set", "acme", "git", "KEY"),
    ],
)
async def test_changing_what_cannot_be_there_makes_no_database_in_a_misspelt_folder(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "never started"
    done = await harvestd(*words, given="value", settings={"DATA_DIR": str(folder)})

    assert done.code == 1
    assert "there is no database in" in done.err
    assert not folder.exists()


def test_a_mistake_of_harvestd_shows_no_text_of_the_exception() -> None:
    program = (
        "import sys; from harvestd.cli import main, look;"
        "look.show_status = lambda *a, **k: {}['canary-in-an-exception'];"
        "sys.exit(main.main(['status']))"
    )
    said = []
    for level in ("info", "debug"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment(HARVESTD_LOG_LEVEL=level),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        said.append(done.stderr)

    assert "KeyError inside harvestd" in said[0]
    assert ".py:" not in said[0]
    assert "commands_looking.py:" in said[1]
    assert "canary-in-an-exception" not in said[0] + said[1]


async def test_help_names_every_command_and_teaches_by_examples() -> None:
    whole = await harvestd("--help")
    commands = [
        "run",
        "demo",
        "migrate",
        "status",
        "trigger",
        "reset",
        "sql",
        "tenant_add",
        "tenant_list",
        "config_set",
        "config_list",
        "config_unset",
    ]
    for name in commands:
        words = name.split("_")
        done = await harvestd(*words, "--help")
        assert done.code == 0
        assert words[0] in whole.out
        assert "For example:" in done.out, name
        assert f"harvestd {' '.join(words)}" in done.out.partition("For example:")[2], name


async def test_the_first_help_names_the_exit_codes() -> None:
    said = " ".join((await harvestd("--help")).out.split())

    assert "0 done; 1 failed" in said
    assert "3 the database cannot be reached" in said


def test_ctrl_c_while_a_command_is_still_being_imported_ends_without_a_traceback() -> None:
    program = (
        "import sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cyclopts': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "from harvestd.cli.main import main\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (130, "harvestd: interrupted\n")


def test_help_loads_neither_the_daemon_nor_a_driver() -> None:
    program = (
        "import sys; from harvestd.cli.main import main; main(['--help']);"
        "print(sorted({'asyncpg', 'uvicorn', 'apscheduler', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


async def test_the_version_is_told_by_both_ways_in() -> None:
    done = await harvestd("--version")

    assert (done.code, done.out) == (0, "0.1.0\n")


async def test_a_reader_that_stops_early_gets_no_complaint(database_url: str) -> None:
    await query(
        database_url,
        "INSERT INTO tenant (id) SELECT 'tenant-' || number FROM generate_series(1, 20000) number",
    )
    process = await asyncio.create_subprocess_exec(
        *command("tenant", "list", "--json", "--limit", "20000"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(HARVESTD_DATABASE_URL=database_url),
        cwd=CHECKOUT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    said = await process.stderr.read()

    assert await process.wait() in (0, 1)
    assert said == b""
