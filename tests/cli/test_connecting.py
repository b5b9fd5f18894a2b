"""A database that does not let us in: what, why, what next; exit code 3, or 2 for the address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import asyncpg
import pytest

from tests.cli.shell import Done, harvestd
from tests.clusters import Cluster, create_database, database_of, drop_database

PASSWORD = "canary:p/w?d#1%2 @[x]"
CANARIES = ("canary", "p/w", quote(PASSWORD, safe=""))


def three_lines(done: Done) -> tuple[str, str, str]:
    """What, why and next, and nothing of a password."""
    assert not [canary for canary in CANARIES if canary in done.err + done.out]
    what, why, next_step = done.err.splitlines()
    assert (what[:10], why[:8], next_step[:8]) == ("harvestd: ", "  why:  ", "  next: ")
    return what, why, next_step


@pytest.fixture
async def stranger(server: Cluster) -> AsyncIterator[str]:
    """A login without rights whose password has every letter that a URL gives a meaning."""
    connection = await asyncpg.connect(server.admin_url())
    await connection.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    yield "stranger"
    await connection.execute("DROP ROLE stranger")
    await connection.close()


def address(server: Cluster, database: str, role: str, password: str = PASSWORD) -> str:
    """As `Cluster.url`, with every letter of the password encoded."""
    word = quote(password, safe="")
    return f"postgresql://{role}:{word}@/{database}?host={quote(str(server.sockets))}"


async def test_a_wrong_password_is_told_with_the_role(server: Cluster, database_url: str) -> None:
    url = address(server, database_of(database_url), "app", "canary-wrong")
    done = await harvestd("status", url=url)
    what, _, next_step = three_lines(done)

    assert done.code == 3
    assert "does not take the password of app" in what
    assert "%40" in next_step


async def test_a_database_that_does_not_exist_is_named(server: Cluster, stranger: str) -> None:
    done = await harvestd("migrate", url=address(server, "nowhere", stranger))
    what, _, next_step = three_lines(done)

    assert done.code == 3
    assert "there is no database nowhere" in what
    assert 'CREATE DATABASE "nowhere" OWNER "stranger"' in next_step


async def test_a_role_that_may_not_connect_is_told_the_grant(
    server: Cluster, stranger: str
) -> None:
    name = await create_database(server)
    admin = await asyncpg.connect(server.admin_url())
    await admin.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    await admin.close()
    done = await harvestd("run", "--once", url=address(server, name, stranger))
    await drop_database(server, name)
    what, _, next_step = three_lines(done)

    assert done.code == 3
    assert f"stranger may not connect to the database {name}" in what
    assert f'GRANT CONNECT ON DATABASE "{name}" TO "stranger"' in next_step


async def test_a_password_with_every_special_letter_works_encoded_and_rights_are_named(
    server: Cluster, stranger: str, database_url: str
) -> None:
    done = await harvestd("status", url=address(server, database_of(database_url), stranger))
    _, why, next_step = three_lines(done)

    assert done.code == 1  # it is in, and may not look
    assert "permission denied for" in why
    assert "GRANT" in next_step


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://app:canary@host/base", "must be postgresql://"),
        ("app:canary@host/base", "must be postgresql://"),
        ("postgresql://app:canary@host:54x2/base", "its port is not a number"),
        ("postgresql://app:canary@host:99999/base", "its port is not a number"),
        ("postgresql://app:can@ary@host/base", "one @ too many"),
        ("postgresql://app:canary#1@host/base", "or a #"),
        ("postgresql://app:canary/1@host/base", "its port is not a number"),
        ("postgresql://app:canary?1@host/base", "cannot be read as a URL"),
        ("postgresql://app:canary[@host/base", "cannot be read as a URL"),
        ("postgresql://app:canary@host/base?sslmode=perhaps", "cannot be used"),
        ("postgresql://app:pw@/base?host=/x&port=canary", "cannot be used"),
    ],
)
async def test_an_address_that_cannot_be_one_is_exit_code_two(url: str, said: str) -> None:
    done = await harvestd("status", url=url)
    what, _, next_step = three_lines(done)

    assert done.code == 2
    assert said in what
    assert "correct" in next_step


async def test_a_misspelt_host_is_told_as_that() -> None:
    done = await harvestd("status", url="postgresql://app:canary@no-such-host.invalid/base")
    what, why, _ = three_lines(done)

    assert done.code == 3
    assert "cannot be reached at no-such-host.invalid" in what
    assert "by itself" not in done.err
    assert "host name is not known" in why
