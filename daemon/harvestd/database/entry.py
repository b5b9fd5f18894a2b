"""Why there is no connection: the address, the login, or the server as it is now.

In words of ours: neither a password nor a text that may quote one is in them.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from harvestd.errors import AddressRefused, DatabaseError, EntryRefused, Unreachable
from harvestd.settings import ENCODED

CHECK = "see that the server runs, and that HARVESTD_DATABASE_URL names its host and port"
TLS = "see sslmode and sslrootcert in HARVESTD_DATABASE_URL, and the server's certificate"
SILENCES: Sequence[tuple[type[Exception], str, str]] = (
    (socket.gaierror, "its host name is not known here", CHECK),
    (ConnectionRefusedError, "nobody listens on that port", CHECK),
    (FileNotFoundError, "there is no socket of a server in that folder", CHECK),
    (TimeoutError, "it did not answer in time", f"{CHECK}; a firewall may lie between"),
    (
        asyncpg.TooManyConnectionsError,
        "it has no connection left",
        "end sessions that nobody needs, or raise max_connections of the server",
    ),
    (
        asyncpg.CannotConnectNowError,
        "it is starting up or shutting down",
        "try again in a moment; if it stays so, its log says why",
    ),
)
"""Errors that the connection itself meets: why, and what to do."""


def explain_entry(
    error: Exception, url: str, user: str | None = None, *, lost: bool
) -> DatabaseError | None:
    """Our error for what asyncpg met while connecting to ``url``; None for something else.

    ``user``: who connects, where that is not the user of ``url``; ``lost``: nobody answered.
    """
    where = _place(url)
    sqlstate = getattr(error, "sqlstate", None) or ""
    ours: DatabaseError | None
    if isinstance(error, ValueError):  # asyncpg's ClientConfigurationError too
        ours = AddressRefused(
            "HARVESTD_DATABASE_URL cannot be used",
            why=_said(error, url),
            next_step="correct it: postgresql://user:password@host:port/database?sslmode=...",
        )
    else:
        ours = _refusal(sqlstate, where, user or _user_of(url), _database_of(url))
    if ours is None and lost:
        why, next_step = _silence(error)
        ours = Unreachable(f"PostgreSQL cannot be reached at {where}", why=why, next_step=next_step)
    if ours is not None:
        ours.sqlstate = sqlstate or None
    return ours


def _refusal(sqlstate: str, where: str, role: str, base: str) -> EntryRefused | None:
    """The server answers, and does not let us in."""
    if sqlstate == "28P01":
        return EntryRefused(
            f"PostgreSQL at {where} does not take the password of {role}",
            why="it is wrong, or there is no such role; the server does not say which",
            next_step=f"correct HARVESTD_DATABASE_URL ({ENCODED}), or give the role another "
            f"password: psql, \\password {role}",
        )
    if sqlstate.startswith("28"):
        return EntryRefused(
            f"PostgreSQL at {where} does not admit {role}",
            why="there is no such role, it may not log in, or no line of pg_hba.conf admits this "
            "user, database and address (perhaps only with TLS)",
            next_step="see the server's log; with ?sslmode=require in HARVESTD_DATABASE_URL "
            "harvestd insists on TLS",
        )
    if sqlstate == "3D000":
        return EntryRefused(
            f"there is no database {base} at {where}",
            why="PostgreSQL answers there, and does not know it",
            next_step=f'correct HARVESTD_DATABASE_URL, or: CREATE DATABASE "{base}" OWNER "{role}"',
        )
    if sqlstate == "42501":
        return EntryRefused(
            f"{role} may not connect to the database {base} at {where}",
            why="the role lacks the right CONNECT",
            next_step=f"the owner of the database runs: GRANT CONNECT ON DATABASE "
            f'"{base}" TO "{role}"',
        )
    return None


def _silence(error: Exception) -> tuple[str, str]:
    """Why nobody answers, and what to do."""
    for kinds, why, next_step in SILENCES:
        if isinstance(error, kinds):
            return why, next_step
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason is given'})", TLS
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno), CHECK
    return f"no connection could be made ({type(error).__name__})", CHECK


def _place(url: str) -> str:
    """Where ``url`` leads, without user, password and parameters."""
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    where = parts.netloc.rpartition("@")[2] or asked.get("host", "")
    return unquote(where) or "the default socket"


def _user_of(url: str) -> str:
    parts = urlsplit(url)
    named = parts.username or dict(parse_qsl(parts.query)).get("user")
    return unquote(named) if named else "the user of this process"


def _database_of(url: str) -> str:
    parts = urlsplit(url)
    named = parts.path.lstrip("/") or dict(parse_qsl(parts.query)).get("dbname", "")
    return unquote(named) or _user_of(url)


def _said(error: Exception, url: str) -> str:
    """What asyncpg says of the address, unless it could quote what nobody must see."""
    if not isinstance(error, asyncpg.InterfaceError):
        return "a part of it cannot be read, perhaps its port"
    parts = urlsplit(url)
    text = str(error).partition("\n")[0]
    secrets = [parts.password, *(v for k, v in parse_qsl(parts.query) if "password" in k)]
    hidden = any(secret and (secret in text or unquote(secret) in text) for secret in secrets)
    return "a part of it cannot be read" if hidden else text
