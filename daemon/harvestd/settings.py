"""Every HARVESTD_* setting of the process, its unit in the name.

Source order: defaults, then the environment.  An unknown HARVESTD_* name is
refused with the nearest known one: pydantic-settings ignores it in silence,
even with ``extra="forbid"`` (seen with 2.16.3).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from harvestd.errors import SettingsError
from harvestd.terms import NAME

PREFIX = "HARVESTD_"
# Kubernetes injects HARVESTD_SERVICE_HOST, HARVESTD_PORT_9464_TCP ... for a Service named harvestd,
# and HARVESTD_DB_SERVICE_HOST, HARVESTD_DB_PORT_5432_TCP ... for one named harvestd-db.
INJECTED = re.compile(
    r"HARVESTD_(SERVICE_|PORT$|PORT_|\w+_SERVICE_HOST$|\w+_SERVICE_PORT(_\w+)?$"
    r"|\w+_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?$)"
)
# HARVESTD_DB_PORT looks like a setting; only its value tells that it is injected.
INJECTED_PORT = re.compile(r"(tcp|udp|sctp)://")

HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>\d{1,5}))?")
ENCODED = "in a password @ : / ? # % are written as %40 %3A %2F %3F %23 %25"


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """/var/lib/harvestd as root (never under /root: PostgreSQL runs as another user), else XDG."""
    environ = os.environ if environ is None else environ
    if os.geteuid() == 0:
        return Path("/var/lib/harvestd")
    home = Path(environ.get("HOME") or Path.home())
    data_home = Path(environ.get("XDG_DATA_HOME", ""))
    # The XDG rules: a relative path there is invalid and ignored.
    return (data_home if data_home.is_absolute() else home / ".local/share") / "harvestd"


class Settings(BaseSettings):
    """The options of one harvestd process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    database_url: SecretStr | None = None
    """PostgreSQL to use, ``postgresql://user:password@host:port/database``; in the password
    ``@ : / ? # %`` are written as ``%40 %3A %2F %3F %23 %25``.
    Unset: the embedded one in DATA_DIR."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Where the embedded PostgreSQL and the caches of data sources live."""
    plugin_dirs: tuple[Path, ...] = ()
    """Colon-separated folders whose sub-folders are data sources, besides the bundled ones."""
    interval_seconds: float = Field(default=60.0, gt=0, le=86400)
    """Seconds between ticks."""
    http_address: str = "127.0.0.1:9464"
    """Where /metrics, /livez and /readyz listen; port 0 takes any free one."""
    runs_max: int = Field(default=64, ge=1, le=1024)
    """Attempts at once in this process."""
    tenant_runs_max: int = Field(default=4, ge=1, le=1024)
    """Attempts at once for one tenant (``tenant.runs_max`` overrides it)."""
    source_runs_max: dict[str, int] = Field(default_factory=dict)
    """Attempts at once for one data source in this process: ``github=8,jira=4``."""
    seats_max: int = Field(default=16, ge=1, le=500)
    """Database connections for plugin SQL, at most."""
    lease_seconds: float = Field(default=30.0, ge=3, le=3600)
    """How long a claim holds without a heartbeat.  Longer: slower take-over after a crash."""
    run_timeout_seconds: float = Field(default=3600.0, gt=0)
    """How long one call of run() may take."""
    slice_seconds: float = Field(default=60.0, gt=0)
    """How long an attempt may go on while others wait."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """How long attempts may go on after SIGTERM."""
    first_import_days: float = Field(default=90.0, gt=0, le=36500)
    """How far back a run begins that never ran."""
    allow_local_repositories: bool = False
    """Admit git repositories by path on this machine, besides https and ssh."""
    tenant_metrics_max: int = Field(default=20, ge=0, le=1000)
    """Tenants with series of their own in the metrics: the latest, and those that fail most."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events that are logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """``auto`` is console on a terminal, else JSON lines."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller hands over: ``load_settings`` reads the environment, once."""
        return (init_settings,)

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        # An empty one (a secret that was not expanded) must not start the embedded PostgreSQL.
        if value is not None and (mistake := mistake_in(value.get_secret_value())):
            raise ValueError(mistake)
        return value

    @field_validator("plugin_dirs", mode="before")
    @classmethod
    def _split_colons(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(":") if part)
        return value

    @field_validator("source_runs_max", mode="before")
    @classmethod
    def _name_equals_number(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        limits = {}
        for part in filter(None, value.replace(" ", "").split(",")):
            name, _, number = part.partition("=")
            if not NAME.fullmatch(name) or not number.isascii() or not number.isdigit():
                raise ValueError("must be SOURCE=NUMBER, separated by commas: github=8,jira=4")
            limits[name] = int(number)
        if 0 in limits.values():
            raise ValueError("0 would never let a data source run; remove its configuration")
        return limits

    @field_validator("http_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("must be HOST:PORT, for example 127.0.0.1:9464")
        return value

    @property
    def http_host_port(self) -> tuple[str, int]:
        """The two halves of ``http_address``."""
        host, _, port = self.http_address.rpartition(":")
        return host.strip("[]"), int(port)


def mistake_in(url: str) -> str | None:
    """Why ``url`` cannot be a database's, or None.  Nothing of it is repeated.

    asyncpg takes the first @ for the end of the password, and what follows for a host: part of
    the password would be looked up as a name.
    """
    if not re.match(r"postgres(ql)?://.", url):
        return "must be postgresql://..., or unset for the embedded PostgreSQL"
    try:
        parts = urlsplit(url)
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return f"it cannot be read as a URL, or what follows its ? is not name=value&...; {ENCODED}"
    login, _, hosts = parts.netloc.rpartition("@")
    if "@" in login or "#" in url:
        return f"it holds one @ too many, or a #; {ENCODED}"
    for one in hosts.split(","):
        found = HOST_AND_PORT.fullmatch(one)
        if found is None or not 0 < int(found["port"] or 5432) < 65536:
            return f"its port is not a number from 1 to 65535; {ENCODED}"
    return None


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the settings of this process; ``overrides`` win (tests and the demo).

    Raises: SettingsError, naming the variable, and never its value.
    """
    environ = os.environ if environ is None else environ
    refuse_unknown_names(environ)
    values: dict[str, object] = {"data_dir": default_data_dir(environ)}
    for field in Settings.model_fields:
        if (name := PREFIX + field.upper()) in environ:
            values[field] = environ[name]
    try:
        return Settings(**(values | overrides))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else PREFIX + "*"
        what, _, why = first["msg"].removeprefix("Value error, ").partition("; ")
        raise SettingsError(
            f"{name}: {what}",
            why=why or f"its value does not fit ({error.error_count()} setting(s) refused)",
            next_step=f"correct or unset {name}; docs/settings.md lists the settings",
        ) from None


def refuse_unknown_names(environ: Mapping[str, str]) -> None:
    """Raise SettingsError for a HARVESTD_* name that no setting has."""
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or _is_injected(name, environ[name]):
            continue
        # Without the prefix, or every name would be near every other.
        bare = [each.removeprefix(PREFIX) for each in known]
        nearest = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)
        hint = f"did you mean {PREFIX}{nearest[0]}?" if nearest else "known: " + ", ".join(known)
        raise SettingsError(
            f"unknown setting {name}", why="no setting has this name", next_step=hint
        )


def _is_injected(name: str, value: str) -> bool:
    return bool(INJECTED.match(name) or (name.endswith("_PORT") and INJECTED_PORT.match(value)))
