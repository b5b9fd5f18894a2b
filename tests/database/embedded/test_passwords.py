"""Who may log in to the embedded PostgreSQL, as what, and what is kept secret."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from harvestd.database.embedded import EmbeddedServer, embedded_server
from harvestd.errors import EmbeddedError
from tests.database.embedded.servers import ask, socket_dir_of


@pytest.mark.parametrize("password", ["", "wrong", "postgres"])
@pytest.mark.parametrize("role", ["postgres", "harvestd"])
async def test_nobody_logs_in_without_the_right_password(
    server: EmbeddedServer, role: str, password: str
) -> None:
    with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
        await asyncpg.connect(
            host=str(socket_dir_of(server.url)), user=role, password=password, database="harvestd"
        )


def test_only_passwords_are_taken_and_only_on_the_socket(server: EmbeddedServer) -> None:
    rules = ask(
        server.admin_url,
        "SELECT string_agg(type || ' ' || auth_method, ', ') FROM pg_hba_file_rules",
    )

    assert rules == "local scram-sha-256"
    assert ask(server.admin_url, "SHOW listen_addresses") == ""
    assert not [c for c in psutil.Process(server.pid).net_connections() if c.laddr]


def test_the_daemon_is_a_plain_role_that_may_create_roles(server: EmbeddedServer) -> None:
    rights = ask(
        server.url,
        "SELECT ARRAY[rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls]"
        " FROM pg_roles WHERE rolname = current_user",
    )
    owner = "SELECT datdba::regrole::text || ' ' || pg_encoding_to_char(encoding) FROM pg_database"

    assert rights == [False, True, False, False, False]
    assert ask(server.url, f"{owner} WHERE datname = current_database()") == "harvestd UTF8"
    assert ask(server.url, "CREATE ROLE made_by_daemon NOLOGIN") is None
    assert ask(server.admin_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


def test_text_sorts_and_folds_the_same_on_every_machine(server: EmbeddedServer) -> None:
    assert ask(server.url, "SELECT upper('é') || ('a' < 'B')::text") == "Éfalse"
    assert ask(server.url, "SHOW data_checksums") == "on"
    assert ask(server.url, "SHOW timezone") == "UTC"
    assert server.version == ask(server.url, "SHOW server_version")


def test_passwords_are_in_one_private_file_and_in_no_process_list(server: EmbeddedServer) -> None:
    kept = server.data_dir / "postgresql.secrets"
    passwords = json.loads(kept.read_text())

    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_uid == os.geteuid()
    assert sorted(passwords) == ["harvestd", "postgres"]
    for password in passwords.values():
        assert len(password) >= 32
        assert password not in repr(server)
        assert password not in (server.data_dir / "postgresql.log").read_text()
        looked_at = 0
        for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children()]:
            with suppress(psutil.Error):  # a backend that is just ending
                shown = f"{process.cmdline()} {process.environ()}"
                looked_at += 1
                assert password not in shown
        assert looked_at > 3
    assert not list(server.data_dir.glob("*password*"))


def test_values_of_failed_statements_stay_out_of_the_log(server: EmbeddedServer) -> None:
    for sql, value in (("SELECT $1::text::int", "canary-one"), ("SELECT 'canary-two'::int", None)):
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            ask(server.url, sql, *([value] if value else []))

    assert "canary" not in (server.data_dir / "postgresql.log").read_text()


def test_passwords_that_others_can_read_are_refused(home: Path) -> None:
    (home / "postgresql.secrets").chmod(0o644)
    with pytest.raises(EmbeddedError, match="chmod 600"), embedded_server(home, own=False):
        pass
    (home / "postgresql.secrets").chmod(0o600)


def test_lost_passwords_are_replaced_and_the_data_is_kept(home: Path) -> None:
    with embedded_server(home, own=True) as before:
        ask(before.url, "CREATE TABLE kept AS SELECT 7 AS n")
    (home / "postgresql.secrets").unlink()

    with embedded_server(home, own=True) as after:
        assert ask(after.url, "SELECT n FROM kept") == 7
        assert ask(after.admin_url, "DROP TABLE kept") is None
        for old in (before.url, before.admin_url):
            with pytest.raises(asyncpg.InvalidPasswordError):
                ask(old, "SELECT 1")
