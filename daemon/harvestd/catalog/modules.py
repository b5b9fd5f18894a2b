"""The files of a folder as modules: imported from bytes already read, never from the disk.

So a script and its helpers are always of one content hash, no compiled copy can be stale,
and an edit within the same second is seen.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import linecache
import os
import sys
import traceback
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import TypeGuard

from harvestd.catalog.discover import AT_NEXT_TICK, PACKAGE_PREFIX, Folder, Problem, printable
from harvestd.catalog.script import Script, script_from_exports
from harvestd.errors import BadExport
from harvestd.terms import ScriptName

MESSAGE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """A script that could not be loaded.

    ``outside`` says that the cause may lie outside the folder (a package that is not
    installed), so trying again without an edit makes sense.
    """

    problem: Problem
    outside: bool


def load_script(folder: Folder, script: str) -> Script | Failure:
    """Import one script of a folder and check its exports.

    Raises nothing: plugin code may raise whatever it likes, SystemExit and KeyboardInterrupt
    included, and that is a Failure.  Runs in a thread, where no real Ctrl-C arrives.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)  # before the finders that would look on the disk
    _FINDER.folders[folder.package] = folder
    name = f"{script}.py"
    path = os.path.join(folder.path, name)
    try:
        module = importlib.import_module(f"{folder.package}.{script}")
        return script_from_exports(
            ScriptName(folder.source, script),
            vars(module),
            path=path,
            content_hash=folder.content_hash,
            text=_decoded(folder.files[name], path),
        )
    except BadExport as wrong:
        problem = Problem(folder.source, script, wrong.path, wrong.line, printable(wrong.text))
        return Failure(problem, outside=False)
    except BaseException as failure:
        where, line = _place(failure, folder) or (path, None)
        problem = Problem(folder.source, script, where, line, _described(failure, folder))
        return Failure(problem, outside=isinstance(failure, ImportError | OSError))


def forget_all_but(folders: Iterable[Folder]) -> None:
    """Drop the modules of every other folder.

    Runs under way keep theirs: a function holds its globals, those hold the loader, and that
    holds the folder, from which even a later ``from . import`` is served.
    """
    kept = list(folders)
    packages = {folder.package for folder in kept}
    for name, module in list(sys.modules.items()):
        if not name.startswith(PACKAGE_PREFIX) or name.partition(".")[0] in packages:
            continue
        # An old run in another thread may be importing just now: the next reload drops that.
        if not getattr(getattr(module, "__spec__", None), "_initializing", False):
            sys.modules.pop(name, None)
    paths = {os.path.join(folder.path, name) for folder in kept for name in folder.files}
    for path in [path for path in _TEXTS if path not in paths]:
        _TEXTS.discard(path)
        linecache.cache.pop(path, None)


class _FolderFinder(importlib.abc.MetaPathFinder):
    """Finds modules in folders that are alive: in use, or held by code that still runs."""

    def __init__(self) -> None:
        self.folders: weakref.WeakValueDictionary[str, Folder] = weakref.WeakValueDictionary()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, inner = fullname.partition(".")
        folder = self.folders.get(package)
        if folder is None:
            return None
        stem = inner.replace(".", "/")
        below = f"{stem}/" if stem else ""
        if f"{below}__init__.py" in folder.files:
            return _spec(fullname, folder, f"{below}__init__.py", is_package=True)
        if f"{stem}.py" in folder.files:
            return _spec(fullname, folder, f"{stem}.py", is_package=False)
        if not stem or any(name.startswith(below) for name in folder.files):
            return _spec(fullname, folder, None, is_package=True)
        return None


class _FileLoader(importlib.abc.InspectLoader):
    """Executes one file of a folder; a package without __init__.py has none."""

    def __init__(self, folder: Folder, name: str | None) -> None:
        self.folder = folder
        self.name = name

    def get_source(self, fullname: str) -> str:
        content = self.folder.files[self.name] if self.name is not None else b""
        return _decoded(content, self._path())

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_source(fullname), self._path())

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if self.name is not None:
            # Without a time, linecache never compares the entry with the file on disk: a
            # traceback shows the text that runs, not the one being edited.
            text = self.get_source(module.__name__)
            lines = text.splitlines(keepends=True)
            linecache.cache[self._path()] = (len(text), None, lines, self._path())
            _TEXTS.add(self._path())

    def _path(self) -> str:
        return os.path.join(self.folder.path, self.name or "__init__.py")


def _spec(fullname: str, folder: Folder, name: str | None, *, is_package: bool) -> ModuleSpec:
    """A spec whose package path is empty, so that no other finder looks for its modules."""
    loader = _FileLoader(folder, name)
    origin = os.path.join(folder.path, name) if name else None
    spec = ModuleSpec(fullname, loader, origin=origin, is_package=is_package)
    spec.has_location = name is not None
    return spec


def _decoded(content: bytes, path: str) -> str:
    """The text of a Python file, in the encoding it declares or UTF-8.

    Raises: SyntaxError with file and line, which Python itself gives for some of these only.
    """
    try:
        text = importlib.util.decode_source(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SyntaxError(f"it is not {error.encoding} text", (path, line, None, None)) from None
    except SyntaxError as error:  # in the first two lines, and without a place
        first = content.partition(b"\n")[0]
        line = 1 if b"coding" in first or not first.isascii() else 2
        raise SyntaxError(error.msg, (path, line, None, None)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SyntaxError("it holds a null byte", (path, line, None, None))
    return text


def _place(failure: BaseException, folder: Folder) -> tuple[str, int | None] | None:
    """File and line in the folder where a failure arose: its last frame there."""
    inside = {os.path.join(folder.path, name) for name in folder.files}
    if _is_syntax_error(failure) and failure.filename in inside:
        return failure.filename, failure.lineno
    for frame, line in reversed(list(traceback.walk_tb(failure.__traceback__))):
        if frame.f_code.co_filename in inside:
            return frame.f_code.co_filename, line
    return None


def _described(failure: BaseException, folder: Folder) -> str:
    """What, why and next of a failure at import."""
    if isinstance(failure, SystemExit):
        return (
            "it called sys.exit while it was imported; why: a script only defines things then, "
            f"its work belongs into run(); next: {AT_NEXT_TICK}"
        )
    if _is_syntax_error(failure):
        return f"syntax error: {printable(failure.msg)}; next: {AT_NEXT_TICK}"
    try:
        text = str(failure)[:MESSAGE_LENGTH_MAX]
    except BaseException:  # the plugin's own __str__
        text = "(its text cannot be shown)"
    message = printable(text.replace(folder.package, folder.source))
    what = f"{type(failure).__name__} while it was imported: {message}"
    if type(failure) is ModuleNotFoundError:
        if f"{failure.name}.py" in folder.files:
            return f"{what}; next: write `from . import {failure.name}`"
        return f"{what}; next: install the missing package for harvestd, or {AT_NEXT_TICK}"
    return f"{what}; next: {AT_NEXT_TICK}"


def _is_syntax_error(failure: BaseException) -> TypeGuard[SyntaxError]:
    """Whether it is Python's own: a plugin may derive or fill one as oddly as it likes."""
    return (
        type(failure) in (SyntaxError, IndentationError, TabError)
        and isinstance(failure, SyntaxError)
        and isinstance(failure.msg, str)
        and isinstance(failure.filename, str)
        and isinstance(failure.lineno, int | None)
    )


_FINDER = _FolderFinder()
_TEXTS: set[str] = set()
