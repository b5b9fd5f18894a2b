"""Settings: where they come from, what is refused, and what a refusal says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harvestd.errors import SettingsError
from harvestd.settings import PREFIX, Settings, default_data_dir, load_settings

CANARY = "canary-5f0c9d1e"


def refusal(name: str, value: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    return caught.value


def test_the_defaults_are_those_of_the_design() -> None:
    settings = load_settings({})

    assert settings.database_url is None
    assert settings.interval_seconds == 60
    assert settings.http_host_port == ("127.0.0.1", 9464)
    assert (settings.runs_max, settings.tenant_runs_max, settings.seats_max) == (64, 4, 16)
    assert settings.lease_seconds == 30
    assert settings.run_timeout_seconds == 3600
    assert (settings.slice_seconds, settings.drain_seconds) == (60, 30)
    assert settings.first_import_days == 90
    assert settings.allow_local_repositories is False
    assert (settings.log_level, settings.log_format) == ("info", "auto")


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARVESTD_RUNS_MAX", "7")

    assert load_settings({}).runs_max == 64
    assert load_settings({"HARVESTD_RUNS_MAX": "8"}).runs_max == 8
    assert load_settings().runs_max == 7
    assert Settings().runs_max == 64


def test_overrides_win_over_the_environment() -> None:
    settings = load_settings({"HARVESTD_RUNS_MAX": "8"}, runs_max=9)

    assert settings.runs_max == 9


def test_a_misspelt_name_is_refused_with_the_nearest_known_one() -> None:
    error = refusal("HARVESTD_LEASE_SECOND", CANARY)

    assert error.what == "unknown setting HARVESTD_LEASE_SECOND"
    assert error.next_step == "did you mean HARVESTD_LEASE_SECONDS?"
    assert CANARY not in str(error)


def test_a_name_like_no_other_is_refused_with_the_list() -> None:
    error = refusal("HARVESTD_XYZZY", "1")

    assert "HARVESTD_RUNS_MAX" in error.next_step
    assert "HARVESTD_DATABASE_URL" in error.next_step


def test_a_name_in_small_letters_is_another_program_s() -> None:
    assert load_settings({"harvestd_runs_max": "9", "PATH": "/bin"}).runs_max == 64


@pytest.mark.parametrize(
    "name",
    [
        "INTERVAL_SECONDS",
        "HTTP_ADDRESS",
        "RUNS_MAX",
        "SEATS_MAX",
        "LEASE_SECONDS",
        "FIRST_IMPORT_DAYS",
        "ALLOW_LOCAL_REPOSITORIES",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "DATABASE_URL",
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable_and_never_shown(name: str) -> None:
    error = refusal(PREFIX + name, CANARY)

    assert error.what.startswith(f"{PREFIX}{name}: ")
    assert error.next_step
    assert CANARY not in str(error) + repr(error)
    assert error.__cause__ is None
    assert "Value error" not in error.what


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "2"),
        ("LEASE_SECONDS", "nan"),
        ("RUN_TIMEOUT_SECONDS", "inf"),
        ("INTERVAL_SECONDS", "0"),
        ("RUNS_MAX", "0"),
        ("RUNS_MAX", "1.5"),
        ("RUNS_MAX", ""),
        ("HTTP_ADDRESS", "127.0.0.1"),
        ("HTTP_ADDRESS", ":9464"),
        ("HTTP_ADDRESS", "127.0.0.1:70000"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://db/x"),
    ],
)
def test_values_outside_the_bounds_are_refused(name: str, value: str) -> None:
    assert refusal(PREFIX + name, value).what.startswith(PREFIX + name)


def test_a_database_password_is_in_no_representation() -> None:
    url = f"postgresql://harvest:{CANARY}@db.internal/saas"
    settings = load_settings({"HARVESTD_DATABASE_URL": url})

    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    assert CANARY not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HARVESTD_SERVICE_HOST", "10.0.0.1"),
        ("HARVESTD_SERVICE_PORT_HTTP", "9464"),
        ("HARVESTD_PORT", "tcp://10.0.0.1:9464"),
        ("HARVESTD_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("HARVESTD_DB_SERVICE_HOST", "10.0.0.2"),
        ("HARVESTD_DB_SERVICE_PORT", "5432"),
        ("HARVESTD_DB_PORT", "tcp://10.0.0.2:5432"),
        ("HARVESTD_DB_PORT_5432_TCP", "tcp://10.0.0.2:5432"),
    ],
)
def test_names_that_kubernetes_injects_are_ignored(name: str, value: str) -> None:
    assert load_settings({name: value}).runs_max == 64


def test_a_port_that_kubernetes_did_not_inject_is_refused() -> None:
    assert refusal("HARVESTD_HTTP_PORT", "8080").code == "settings"


def test_plugin_folders_are_separated_by_colons_and_keep_their_spaces() -> None:
    settings = load_settings({"HARVESTD_PLUGIN_DIRS": "/srv/my plugins::/opt/other"})

    assert settings.plugin_dirs == (Path("/srv/my plugins"), Path("/opt/other"))


def test_limits_of_data_sources_are_names_and_numbers() -> None:
    settings = load_settings({"HARVESTD_SOURCE_RUNS_MAX": "github=8, jira=4"})

    assert settings.source_runs_max == {"github": 8, "jira": 4}
    assert load_settings({}).source_runs_max == {}
    for value in ("github", "github=x", "=4", "github=-1", "github=0", "GitHub=2"):
        assert "HARVESTD_SOURCE_RUNS_MAX" in str(refusal("HARVESTD_SOURCE_RUNS_MAX", value))


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert load_settings({"HARVESTD_HTTP_ADDRESS": "[::1]:0"}).http_host_port == ("::1", 0)


def test_the_data_folder_follows_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert default_data_dir({"HOME": "/home/ann"}) == Path("/home/ann/.local/share/harvestd")
    assert default_data_dir({"HOME": "/h", "XDG_DATA_HOME": "/x"}) == Path("/x/harvestd")
    assert default_data_dir({"HOME": "/h", "XDG_DATA_HOME": "not/absolute"}).is_relative_to("/h")
    assert load_settings({"HOME": "/h"}).data_dir == Path("/h/.local/share/harvestd")


def test_root_s_data_folder_is_never_its_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert default_data_dir({"HOME": "/root"}) == Path("/var/lib/harvestd")


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = load_settings({})

    with pytest.raises(ValueError, match="frozen"):
        settings.runs_max = 1


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
