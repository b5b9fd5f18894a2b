"""Tenants and their configuration from the command line; no value is ever shown."""

from __future__ import annotations

import asyncio
import io

import psutil
import pytest

from harvestd.cli.configure import read_value
from harvestd.cli.names import checked_name
from harvestd.cli.output import UsageError
from tests.builders import a_run, a_tenant, query
from tests.cli.shell import command, end, environment, harvestd, terminal

CANARY = "canary-4f9c-token-value"
VALUES = "SELECT tenant_id, data_source, key, value FROM tenant_data_source_config ORDER BY key"


async def test_a_tenant_is_added_once_and_listed_with_its_name(database_url: str) -> None:
    first = await harvestd("tenant", "add", "acme", "--name", "Acme Ltd", url=database_url)
    again = await harvestd("tenant", "add", "acme", "--json", url=database_url)
    listed = await harvestd("tenant", "list", "--json", url=database_url)
    table = await harvestd("tenant", "list", url=database_url)

    assert (first.code, first.out) == (0, "")
    assert again.json == {"tenant_id": "acme", "added": False}
    assert [(one["id"], one["name"], one["runs"]) for one in listed.json] == [
        ("acme", "Acme Ltd", 0)
    ]
    assert "Acme Ltd" in table.out


async def test_an_empty_database_is_migrated_by_the_first_command_that_writes(
    empty_database: str,
) -> None:
    reading = await harvestd("tenant", "list", url=empty_database)
    writing = await harvestd("tenant", "add", "acme", url=empty_database)
    after = await harvestd("status", "--json", url=empty_database)

    assert reading.code == 1
    assert "next: harvestd migrate" in reading.err
    assert writing.code == 0
    assert after.json["overview"]["tenants"] == 1


@pytest.mark.parametrize("tenant_id", ["", "  ", "a\nb", "x" * 201, "\x1b[31mred"])
def test_an_id_that_cannot_be_a_tenant_is_refused(tenant_id: str) -> None:
    with pytest.raises(UsageError, match="cannot be a tenant's id") as refused:
        checked_name("tenant's id", tenant_id)

    assert refused.value.what.isprintable()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (f"{CANARY}\n", CANARY),
        (f"{CANARY}\r\n", CANARY),
        (f" {CANARY} \n\n", f" {CANARY} \n"),
        ("zwei\nZeilen ü", "zwei\nZeilen ü"),
    ],
)
def test_a_value_from_a_pipe_loses_one_line_break_at_its_end(
    given: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))

    assert read_value("acme git KEY") == kept


@pytest.mark.parametrize("given", [b"", b"\n", b"\xff\xfe", b"a\0b", b"x" * 1_000_001])
def test_a_value_that_cannot_be_kept_is_refused_without_a_trace_of_it(
    given: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    with pytest.raises(UsageError) as refused:
        read_value("acme git KEY")

    assert refused.value.why
    assert "xxx" not in str(refused.value)


async def test_a_value_is_kept_as_it_was_piped_in(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    done = await harvestd(
        *("config", "set", "acme", "git", "GIT_TOKEN"), url=database_url, given=f"{CANARY}\n"
    )
    empty = await harvestd("config", "set", "acme", "git", "GIT_TOKEN", url=database_url)

    assert (done.code, done.out) == (0, "")
    assert empty.code == 2
    assert [row["value"] for row in await query(database_url, VALUES)] == [CANARY]


async def test_a_value_given_as_an_argument_is_refused_and_not_repeated(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    for arguments in (["acme", "git", "KEY", CANARY], ["acme", "git", f"--value={CANARY}", "KEY"]):
        done = await harvestd("config", "set", *arguments, url=database_url, given="x")
        assert done.code == 2
        assert CANARY not in done.out + done.err
    assert await query(database_url, VALUES) == []


async def test_no_value_shows_in_any_output_or_process_list(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    process = await asyncio.create_subprocess_exec(
        *command("config", "set", "acme", "git", "GIT_TOKEN", "--json"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(HARVESTD_DATABASE_URL=database_url, HARVESTD_LOG_LEVEL="debug"),
    )
    try:
        listed = psutil.Process(process.pid).cmdline()
        out, err = await process.communicate(CANARY.encode())
    finally:
        await end(process)
    said = out + err
    for arguments in (["config", "list", "--json"], ["config", "list", "acme"], ["status", "acme"]):
        done = await harvestd(*arguments, url=database_url, settings={"LOG_LEVEL": "debug"})
        said += (done.out + done.err).encode()

    assert listed[-4:] == ["acme", "git", "GIT_TOKEN", "--json"]
    assert CANARY not in " ".join(listed)
    assert process.returncode == 0
    assert b"GIT_TOKEN" in said
    assert CANARY.encode() not in said


async def test_setting_a_key_again_replaces_its_value(database_url: str) -> None:
    await a_tenant(database_url, "acme", {"git": {"GIT_TOKEN": "old"}})
    arguments = ("config", "set", "acme", "git", "GIT_TOKEN", "--json")
    done = await harvestd(*arguments, url=database_url, given="new")

    assert done.json == {
        "tenant_id": "acme",
        "data_source": "git",
        "key": "GIT_TOKEN",
        "added": False,
    }
    assert [row["value"] for row in await query(database_url, VALUES)] == ["new"]


async def test_a_data_source_without_a_plugin_is_warned_of_but_kept(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    done = await harvestd("config", "set", "acme", "gitt", "KEY", url=database_url, given="v")

    assert done.code == 0
    assert "did you mean 'git'?" in done.err
    assert [row["data_source"] for row in await query(database_url, VALUES)] == ["gitt"]


MISSPELT = (
    "config set acmee git KEY",
    "config list acmee",
    "config unset acme gitt",
    "config unset acme git TOKN",
    "status ACME",
    "trigger acme --source gti",
    "trigger acme --source git --script comit",
    "reset acme --script comit --yes",
)


async def test_an_unknown_name_is_an_error_with_the_nearest_known_one(database_url: str) -> None:
    await a_tenant(database_url, "acme", {"git": {"TOKEN": "value"}})
    await a_run(database_url, "acme/git/commit")
    for line in MISSPELT:
        done = await harvestd(*line.split(), url=database_url, given="value")
        assert (done.code, done.out) == (1, ""), line
        assert "did you mean '" in done.err, line
        assert len(done.err.splitlines()) == 3, line


async def test_removing_the_last_key_says_that_the_source_is_disabled(database_url: str) -> None:
    await a_tenant(database_url, "acme", {"git": {"A": "1", "B": "2"}})
    one = await harvestd("config", "unset", "acme", "git", "A", "--json", url=database_url)
    last = await harvestd("config", "unset", "acme", "git", "B", "--json", url=database_url)

    assert (one.json["removed"], one.json["disabled"]) == (["A"], False)
    assert (last.json["removed"], last.json["disabled"]) == (["B"], True)
    assert await query(database_url, VALUES) == []


async def test_at_a_terminal_a_value_is_asked_for_and_not_shown(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    with terminal(
        *("config", "set", "acme", "git", "GIT_TOKEN"), settings={"DATABASE_URL": database_url}
    ) as screen:
        await screen.until("not shown")
        screen.type(f"{CANARY}\n")
        code = await screen.ended()

    assert code == 0
    assert CANARY not in screen.said
    assert [row["value"] for row in await query(database_url, VALUES)] == [CANARY]


async def test_at_a_terminal_an_unknown_tenant_is_told_before_a_secret_is_typed(
    database_url: str,
) -> None:
    with terminal(
        *("config", "set", "nobody", "git", "GIT_TOKEN"), settings={"DATABASE_URL": database_url}
    ) as screen:
        code = await screen.ended()

    assert code == 1
    assert "not shown" not in screen.said


async def test_ctrl_c_at_the_prompt_ends_the_command_at_once(database_url: str) -> None:
    await a_tenant(database_url, "acme")
    with terminal(
        *("config", "set", "acme", "git", "GIT_TOKEN"), settings={"DATABASE_URL": database_url}
    ) as screen:
        await screen.until("not shown")
        screen.type("\x03")
        code = await screen.ended()

    assert code == 130
    assert await query(database_url, VALUES) == []


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 2, 1), ("\n", 2, 1), ("y\n", 0, 0)])
async def test_at_a_terminal_disabling_a_source_is_asked_about(
    database_url: str, answer: str, code: int, left: int
) -> None:
    await a_tenant(database_url, "acme", {"git": {"A": "1"}})
    with terminal(
        *("config", "unset", "acme", "git"), settings={"DATABASE_URL": database_url}
    ) as screen:
        await screen.until("[y/N]")
        screen.type(answer)
        ended = await screen.ended()

    assert ended == code
    assert len(await query(database_url, VALUES)) == left


async def test_the_applications_own_tenant_table_is_explained_when_it_wants_more(
    database_url: str,
) -> None:
    await query(database_url, "ALTER TABLE tenant ADD COLUMN plan text NOT NULL")
    done = await harvestd("tenant", "add", "acme", url=database_url)

    assert done.code == 1
    assert "let the application make the tenant" in done.err
    assert "column plan" in done.err


async def test_elsewhere_than_at_a_terminal_a_whole_source_is_removed_only_with_yes(
    database_url: str,
) -> None:
    await a_tenant(database_url, "acme", {"git": {"A": "1", "B": "2"}})
    refused = await harvestd("config", "unset", "acme", "git", url=database_url)
    left = len(await query(database_url, VALUES))
    done = await harvestd("config", "unset", "acme", "git", "--yes", url=database_url)

    assert (refused.code, left) == (2, 2)
    assert "--yes" in refused.err
    assert (done.code, await query(database_url, VALUES)) == (0, [])
