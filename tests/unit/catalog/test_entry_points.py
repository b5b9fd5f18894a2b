"""Installed packages join through their metadata."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.catalog.plugin_folder import PluginFolder, only_problem, said, saying, script_of


def install(site: Path, package: str, entry_points: str) -> None:
    """Make the metadata that an installed package leaves beside its folder."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


async def test_an_installed_package_joins_without_being_imported(
    plugins: PluginFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PluginFolder(tmp_path / "site")
    site.write("acme_plugins/__init__.py", "raise AssertionError('never imported')")
    site.write("acme_plugins/crm/account.py", saying("installed"))
    site.write("billing_files/invoice.py", saying("by path"))
    install(
        site.path,
        "acme_plugins",
        "[harvestd.data_sources]\ncrm = acme_plugins.crm\nbilling = ./billing_files\n",
    )
    monkeypatch.syspath_prepend(str(site.path))

    catalog = plugins.load()

    assert await said(script_of(catalog, "crm/account")) == ["installed"]
    assert await said(script_of(catalog, "billing/invoice")) == ["by path"]
    assert catalog.sources["crm"].folder == site.path / "acme_plugins" / "crm"
    assert catalog.problems == ()


async def test_plugin_folders_win_over_installed_packages(
    plugins: PluginFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PluginFolder(tmp_path / "site")
    site.write("acme_crm/__init__.py", "")
    site.write("acme_crm/account.py", "raise AssertionError('never imported')")
    install(site.path, "acme_crm", "[harvestd.data_sources]\ncrm = acme_crm\n")
    monkeypatch.syspath_prepend(str(site.path))
    plugins.write("crm/account.py", saying("edited"))

    catalog = plugins.load()

    assert await said(script_of(catalog, "crm/account")) == ["edited"]
    (note,) = catalog.notes
    assert note.endswith(f"not {site.path}/acme_crm/account.py")


@pytest.mark.parametrize(
    ("entry_points", "why"),
    [
        ("[harvestd.data_sources]\ncrm = no_such_package_at_all\n", "no_such_package_at_all"),
        ("[harvestd.data_sources]\ncrm = empty_package\n", "it holds no script of crm"),
        ("[harvestd.data_sources]\nno equals sign\n", "an installed package's entry point"),
        ("[harvestd.data_sources]\nCRM = with_script\n", "the name 'CRM' cannot be used"),
    ],
)
def test_a_package_whose_entry_point_is_wrong_is_a_problem_of_its_own(
    plugins: PluginFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry_points: str,
    why: str,
) -> None:
    site = PluginFolder(tmp_path / "site")
    site.write("empty_package/__init__.py", "")
    site.write("with_script/account.py", saying("x"))
    install(site.path, "wrong", entry_points)
    install(site.path, "right", "[harvestd.data_sources]\nright = with_script\n")
    monkeypatch.syspath_prepend(str(site.path))
    plugins.write("git/commit.py", saying("x"))

    catalog = plugins.load()

    assert "git" in catalog.sources
    assert why in only_problem(catalog).what
    if "with_script" not in entry_points:
        assert list(catalog.sources["right"].scripts) == ["account"]
