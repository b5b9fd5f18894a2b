"""`harvestd new`: a data source that works, to be changed into one's own."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

from harvestd.catalog.discover import (
    SCHEMA_FILE,
    bundled_plugin_dir,
    is_skipped,
    misnamed,
    name_refusal,
)
from harvestd.cli import scaffold_files
from harvestd.cli.explain import as_told
from harvestd.cli.output import UsageError, note, print_json
from harvestd.cli.reach import command_settings
from harvestd.errors import HarvestdError
from harvestd.settings import Settings
from harvestd.terms import NAME

FOLDER = Path("plugins/data_sources")
"""Where data sources go unless HARVESTD_PLUGIN_DIRS or --in says otherwise."""


@dataclass(frozen=True, slots=True)
class Made:
    """What there is to say; the fields are keys of the JSON.

    ``schema_to_add``: the table, where there was a schema.sql already, which is left as it is.
    """

    folder: str
    files: tuple[str, ...]
    schema_to_add: str | None
    next_commands: tuple[str, ...]


def new_script(name: str, folder: str | None, *, as_json: bool) -> int:
    """Write the files of a new script, none of which may be there; the exit code."""
    source, script = _checked(name)
    settings = command_settings()
    root = _root(folder, settings)
    bundled = bundled_plugin_dir()
    if (bundled / source).is_dir() and root.resolve() != bundled.resolve():
        raise UsageError(
            f"the data source {source} comes along with harvestd",
            why="a folder of that name would take the place of its schema.sql",
            next_step=f"harvestd new my_{name}",
        )
    words = {
        "source": source,
        "schema": f'"{source}"' if source in scaffold_files.RESERVED else source,
        "script": script,
        "KEY": source.upper(),
        "Name": "".join(map(str.capitalize, script.split("_"))),
    }
    texts = {
        f"{script}.py": _filled(scaffold_files.SCRIPT, words),
        SCHEMA_FILE: _filled(scaffold_files.SCHEMA + scaffold_files.TABLE, words),
        f"test_{source}_{script}.py": _filled(scaffold_files.TEST, words),
    }
    table = None
    if (root / source / SCHEMA_FILE).exists():
        del texts[SCHEMA_FILE]
        table = _filled(scaffold_files.TABLE, words)
    _write(root / source, texts)
    made = Made(
        str(root / source), tuple(texts), table, tuple(_next(root, source, script, settings))
    )
    if as_json:
        print_json(made)
    else:
        _print(made)
    return 0


def _checked(name: str) -> tuple[str, str]:
    source, slash, script = name.partition("/")
    like_it = re.sub(r"[^a-z0-9_/]", "_", name.lower())
    fits = all(NAME.fullmatch(part) for part in like_it.split("/")) and like_it.count("/") == 1
    example = f"harvestd new {like_it if fits and like_it != name else 'weather/reading'}"
    if not slash:
        raise UsageError(
            f"{name!r} is not SOURCE/SCRIPT",
            why="a data source is a folder, and each of its scripts a file in it",
            next_step=example,
        )
    refusal = name_refusal(source) or (None if NAME.fullmatch(script) else misnamed(script))
    if refusal is not None:
        told = as_told(refusal)
        raise UsageError(told.what, why=told.why, next_step=example)
    if is_skipped(f"{script}.py"):
        raise UsageError(
            f"the name {script!r} cannot be used",
            why="test_*.py, *_test.py and conftest.py are tests: no script is looked for there",
            next_step=example,
        )
    return source, script


def _root(folder: str | None, settings: Settings) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    return settings.plugin_dirs[0] if settings.plugin_dirs else FOLDER


def _filled(text: str, words: dict[str, str]) -> str:
    return Template(text).substitute(words)


def _write(folder: Path, texts: dict[str, str]) -> None:
    """All of the files, or none."""
    there = [name for name in texts if os.path.lexists(folder / name)]
    if there:
        raise HarvestdError(
            f"{folder / there[0]} is there already",
            why="new writes over nothing",
            next_step="choose another name, or remove the file",
        )
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise HarvestdError(
            f"{error.filename or folder} cannot be written",
            why=error.strerror or str(error),
            next_step="harvestd new SOURCE/SCRIPT --in FOLDER, with a folder that is yours",
        ) from None


def _next(root: Path, source: str, script: str, settings: Settings) -> list[str]:
    """The commands from here to rows, as they can be typed."""
    commands = []
    known = [*settings.plugin_dirs, bundled_plugin_dir()]
    if root.resolve() not in [one.resolve() for one in known]:
        folders = ":".join(map(str, [root.resolve(), *settings.plugin_dirs]))
        commands.append(f"export HARVESTD_PLUGIN_DIRS={shlex.quote(folders)}")
    if importlib.util.find_spec("pytest_asyncio") is None:
        commands.append("python -m pip install 'harvestd[testing]'")
    return [
        *commands,
        f"python -m pytest {shlex.quote(str(root / source))}",
        "harvestd migrate",
        "harvestd tenant add acme",
        f"harvestd config set acme {source} {source.upper()}_URL",
        f"harvestd config set acme {source} {source.upper()}_TOKEN",
        f"harvestd try {source}/{script} --tenant acme --from 1d",
    ]


def _print(made: Made) -> None:
    for name in made.files:
        print(Path(made.folder) / name)
    if made.schema_to_add is not None:
        note(f"add the table to {Path(made.folder) / SCHEMA_FILE}, which is left as it is:")
        print()
        print(made.schema_to_add)
    note("next, one after the other:")
    for command in made.next_commands:
        note(f"    {command}")
