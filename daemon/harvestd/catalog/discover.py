"""Where data sources lie, and the bytes of their folders; no plugin code runs here.

Order: PLUGIN_DIRS as given, the bundled folder, then installed packages (entry points).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harvestd.catalog.script import Script
from harvestd.terms import NAME

ENTRY_POINTS = "harvestd.data_sources"
SCHEMA_FILE = "schema.sql"
PACKAGE_PREFIX = "harvestd_source_"
RESERVED = frozenset({"public", "harvestd", "harvestd_api", "information_schema"})
FOLDER_FILES_MAX = 1_000
FILE_BYTES_MAX = 1_048_576  # larger files count by size and time, and cannot be scripts
AT_NEXT_TICK = "correct it: the folder is read again at the next tick"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a plugin folder that cannot be used; ``what`` has what, why and next.

    ``source`` is empty when a whole plugin folder is meant.
    """

    source: str
    script: str | None
    path: str
    line: int | None
    what: str

    @property
    def place(self) -> str:
        """File and line, as far as known, on one line."""
        return printable(self.path if self.line is None else f"{self.path}:{self.line}")

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True, slots=True)
class Source:
    """One data source as it can run now; its scripts may come from several folders.

    ``folder`` is the first of them.  ``schema_sql`` is the text of its schema.sql, if it has one;
    ``plain_keys`` are the configuration keys whose values are no secrets.
    """

    name: str
    folder: Path
    content_hash: str
    scripts: Mapping[str, Script]
    schema_sql: str | None
    plain_keys: frozenset[str]


@dataclass(frozen=True)
class Folder:
    """What one folder of a data source held when it was read.

    ``files`` maps names of code (Python, SQL), relative to the folder, to bytes; ``refused``
    those that must not or could not be read to the reason, with the empty name for the folder
    itself.  ``content_hash`` is over all files, since a script may read others at import.
    """

    source: str
    path: Path
    files: Mapping[str, bytes]
    refused: Mapping[str, Problem]
    content_hash: str

    @cached_property
    def package(self) -> str:
        """Name of the package its modules are imported under: one for each place and content."""
        place = hashlib.sha256(f"{self.path}\n{self.content_hash}".encode(errors="surrogateescape"))
        return f"{PACKAGE_PREFIX}{self.source}_{place.hexdigest()[:16]}"

    @cached_property
    def scripts(self) -> tuple[str, ...]:
        """Names of its script files, whether they can be used or not."""
        names = [*self.files, *self.refused]
        return tuple(sorted({name.removesuffix(".py") for name in names if is_script(name)}))


@dataclass(slots=True)
class Found:
    """The folders of each data source in order of precedence, and what was not right."""

    folders: dict[str, list[Folder]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def bundled_plugin_dir() -> Path:
    """Folder of the data sources that come along: the copy in the wheel, or the checkout's."""
    here = Path(__file__)
    bundled = here.parents[1] / "_bundled" / "plugins" / "data_sources"
    return bundled if bundled.is_dir() else here.parents[3] / "plugins" / "data_sources"


def find_folders(plugin_dirs: Sequence[Path], bundled: Path) -> Found:
    """Read the folders of all data sources.  Blocking I/O; raises nothing."""
    found = Found()
    seen: set[str] = set()
    for root in [*plugin_dirs, bundled]:
        if os.path.realpath(root) not in seen:
            seen.add(os.path.realpath(root))
            _read_plugin_dir(root, found)
    for name, path in _entry_points(found.problems):
        if os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            folder = read_folder(name, path, path)
            if folder is None:
                found.problems.append(_unusable_package(path, f"it holds no script of {name}"))
            _add(folder, found)
    return found


def _read_plugin_dir(root: Path, found: Found) -> None:
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append(
            Problem(
                "",
                None,
                str(root),
                None,
                f"the plugin folder cannot be read: {error.strerror}; why: HARVESTD_PLUGIN_DIRS "
                "names it; next: make it, or take it out of that setting",
            )
        )
        return
    for entry in entries:
        if is_skipped(entry.name) or entry.name.startswith("_"):
            continue
        if not os.path.isdir(entry.path):
            if is_script(entry.name):
                found.notes.append(
                    f"{printable(entry.path)} is not used: "
                    "a script lies in the folder of its data source"
                )
            continue
        _add(read_folder(entry.name, Path(entry.path), root), found)


def _add(folder: Folder | None, found: Found) -> None:
    """Keep a folder that is a data source; its own refusals become problems."""
    if folder is None:
        return
    refusal = name_refusal(folder.source)
    if refusal:
        found.problems.append(Problem(folder.source, None, str(folder.path), None, refusal))
        return
    for name in folder.scripts:
        if not NAME.fullmatch(name):
            found.problems.append(
                Problem(folder.source, name, f"{folder.path}/{name}.py", None, misnamed(name))
            )
    found.folders.setdefault(folder.source, []).append(folder)


def read_folder(source: str, path: Path, root: Path) -> Folder | None:
    """Read one folder; links may lead anywhere inside ``root``, the plugin folder.

    None when it is gone, or holds neither a script nor schema.sql.
    """
    reading = _Reading(source, path, os.path.realpath(root))
    try:
        # Before anything is read: it may be somebody's virtual environment.
        if not any(map(_makes_a_source, os.listdir(path))):
            return None
        reading.check_link(str(path))
        reading.read(path, "")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, _TooManyFiles) as error:  # half a folder is no data source
        reading = _Reading(source, path, reading.root)
        reading.refuse("", getattr(error, "strerror", None) or str(error))
    digest = hashlib.sha256()
    for name, content in sorted(reading.digests.items()):
        digest.update(f"{len(name)} {name} {content}\n".encode(errors="surrogateescape"))
    return Folder(source, path, reading.files, reading.refused, digest.hexdigest())


class _TooManyFiles(Exception):
    """A folder that cannot be meant as a data source's."""


class _Reading:
    """The files of one folder while they are read."""

    def __init__(self, source: str, path: Path, root: str) -> None:
        self.source = source
        self.path = path
        self.root = root
        self.files: dict[str, bytes] = {}
        self.refused: dict[str, Problem] = {}
        self.digests: dict[str, str] = {}

    def read(self, folder: Path, prefix: str) -> None:
        """Read ``folder`` and those below it; what vanishes meanwhile was never there."""
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = prefix + entry.name
            if is_skipped(entry.name):
                continue
            if len(self.digests) >= FOLDER_FILES_MAX:
                raise _TooManyFiles(f"it holds more than {FOLDER_FILES_MAX} files")
            try:
                self._read_entry(entry, name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.refuse(name, error.strerror or str(error))

    def _read_entry(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.is_symlink():
            self.check_link(entry.path)
        status = entry.stat()
        if stat.S_ISDIR(status.st_mode):
            if entry.is_symlink():  # might lead in a circle
                raise OSError(0, "a link to a folder is not followed")
            self.read(Path(entry.path), f"{name}/")
        elif not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise OSError(0, "it is not a regular file")
        elif status.st_size <= FILE_BYTES_MAX:
            with open(entry.path, "rb") as file:
                content = file.read(FILE_BYTES_MAX)
            if name.endswith((".py", ".sql")):
                self.files[name] = content
            self.digests[name] = hashlib.sha256(content).hexdigest()
        elif name.endswith((".py", ".sql")):
            raise OSError(0, f"it is larger than {FILE_BYTES_MAX} bytes")
        else:
            self.digests[name] = f"{status.st_size} {status.st_mtime_ns}"

    def check_link(self, path: str) -> None:
        """Raise OSError when ``path`` leads out of the plugin folder."""
        if not Path(os.path.realpath(path)).is_relative_to(self.root):
            raise OSError(0, f"it is a link that leads out of {printable(self.root)}")

    def refuse(self, name: str, why: str) -> None:
        """Note why a file, or (by the empty name) the folder, is not used."""
        path = os.path.join(self.path, name) if name else str(self.path)
        script = name.removesuffix(".py") if is_script(name) else None
        what = f"not used; why: {why}; next: {AT_NEXT_TICK}"
        self.refused[name] = Problem(self.source, script, path, None, what)
        self.digests[name] = why


def is_script(name: str) -> bool:
    """Whether a file name, relative to the data source's folder, is that of a script."""
    return name.endswith(".py") and "/" not in name and not name.startswith("_")


def _makes_a_source(name: str) -> bool:
    return name == SCHEMA_FILE or (is_script(name) and not is_skipped(name))


def printable(text: str) -> str:
    """``text`` on one line: file names and plugins' messages may hold any character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def is_skipped(name: str) -> bool:
    """Whether a file or folder counts for nothing: hidden, compiled, a test, an editor's copy."""
    if name.startswith((".", "#")) or name.endswith(("~", ".pyc", "_test.py")):
        return True
    if name.endswith(".py"):
        return name.startswith("test_") or name == "conftest.py"
    return name in ("__pycache__", "tests")


def misnamed(name: str) -> str:
    return (
        f"the name {name!a} cannot be used; why: names match {NAME.pattern}, since they become "
        "schemas, tables and labels; next: rename it"
    )


def name_refusal(source: str) -> str | None:
    if not NAME.fullmatch(source):
        return misnamed(source)
    if source in RESERVED or source.startswith("pg_"):
        return (
            f"the name {source!r} cannot be used; why: PostgreSQL or harvestd has a schema of "
            "that name; next: rename the folder"
        )
    return None


def _entry_points(problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Data source and folder of each installed package that joins; none is imported."""
    for distribution in importlib.metadata.distributions():
        place = Path(str(distribution.locate_file("")))
        try:
            if ENTRY_POINTS not in (distribution.read_text("entry_points.txt") or ""):
                continue
            points = distribution.entry_points.select(group=ENTRY_POINTS)
            folders = [(point.name, _folder_of(point.value, distribution)) for point in points]
        except Exception as error:  # whatever an installed package has for metadata
            problems.append(_unusable_package(place, f"{type(error).__name__}: {error}"))
        else:
            yield from folders


def _unusable_package(path: Path, why: str) -> Problem:
    what = (
        f"an installed package's entry point in {ENTRY_POINTS} cannot be used; "
        f"why: {printable(why)}; next: mend or uninstall that package"
    )
    return Problem("", None, str(path), None, what)


def _folder_of(value: str, distribution: importlib.metadata.Distribution) -> Path:
    """Folder of the package ``value`` names, or of the path it is.

    importlib.util.find_spec("a.b") would import ``a``, so only the first part is looked up.
    """
    if "/" in value:
        return Path(str(distribution.locate_file(value)))
    name, *below = value.split(".")
    spec = importlib.util.find_spec(name)
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place, *below)
        if folder.is_dir():
            return folder
    raise ModuleNotFoundError(f"there is no package {value!r}")
