"""One script as a value: what its file exports, checked at the door.

Pure: planning imports it, so nothing here reads a file, a clock or the environment.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import reprlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from harvestd.errors import BadExport
from harvestd.terms import ScriptName

RunFunction = Callable[[Mapping[str, str], Any, str, datetime, datetime], Awaitable[object]]

RUN_PARAMETERS = ("env", "db", "tenant_id", "start_date", "end_date")
EXPORTS = (
    "resources",
    "dependencies",
    "import_window_duration",
    "catch_up",
    "interval",
    "lookback",
    "visibility_lag",
    "timeout",
    "origin",
    "isolation",
    "plain_keys",
)
ISOLATIONS = ("inline",)
RESOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
DEPENDENCY = re.compile(rf"(?:{RESOURCE.pattern}/)?{RESOURCE.pattern}")

WIDTH = timedelta(hours=24)
VISIBILITY_LAG = timedelta(seconds=10)
NO_TIME = timedelta(0)
WIDTH_LEAST = timedelta(milliseconds=1)  # window ends are whole milliseconds
# Window arithmetic adds these to dates: a century keeps every sum inside datetime's years.
DURATION_MAX = timedelta(days=36_500)
# At 0.8 `dependancies`, `resource` and `timeouts` are caught, `retention` and `regions` are not.
MISSPELT_CUTOFF = 0.8

Fallback = TypeVar("Fallback", timedelta, None)


@dataclass(frozen=True, slots=True)
class Script:
    """A script that can run, with its defaults filled in.

    ``content_hash`` is of the folder it came from.  A script that names no ``resources``
    provides one of its own name.  ``origin`` is aware and in UTC;
    ``origin_age`` is how far before its enrolment a run's source time begins.  At most
    one of the two is set.  ``isolation`` is "inline" or None (the setting).
    """

    name: ScriptName
    run: RunFunction
    content_hash: str
    resources: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    width: timedelta = WIDTH
    catch_up: bool = True
    interval: timedelta | None = None
    lookback: timedelta = NO_TIME
    visibility_lag: timedelta = VISIBILITY_LAG
    timeout: timedelta | None = None
    origin: datetime | None = None
    origin_age: timedelta | None = None
    isolation: str | None = None
    plain_keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.resources:
            object.__setattr__(self, "resources", (self.name.script,))


def script_from_exports(
    name: ScriptName,
    exports: Mapping[str, object],
    *,
    path: str,
    content_hash: str,
    text: str = "",
) -> Script:
    """Make a script of the names its module holds; ``text`` is the module's, for line numbers.

    Raises: BadExport, with the file, the line of the assignment (as far as ``text`` tells),
    the export, what it is and what it must be.
    """
    door = _Door(exports, path, _bindings(text))
    run = door.run()
    door.refuse_misspelt()
    origin, origin_age = door.origin()
    return Script(
        name=name,
        run=run,
        content_hash=content_hash,
        resources=door.names("resources", (), RESOURCE, 'names, such as ["issue"]'),
        dependencies=door.names(
            "dependencies", (), DEPENDENCY, 'names, such as ["repository", "git/commit"]'
        ),
        width=door.width(),
        catch_up=door.flag("catch_up", True),
        interval=door.duration("interval", None, positive=True),
        lookback=door.duration("lookback", NO_TIME, positive=False),
        visibility_lag=door.duration("visibility_lag", VISIBILITY_LAG, positive=False),
        timeout=door.duration("timeout", None, positive=True),
        origin=origin,
        origin_age=origin_age,
        isolation=door.isolation(),
        plain_keys=frozenset(
            door.names("plain_keys", (), re.compile(r"\S+"), 'keys, such as ["GIT_REPOSITORIES"]')
        ),
    )


@dataclass(frozen=True, slots=True)
class _Door:
    """Reads one export at a time; what is not as it must be raises BadExport."""

    exports: Mapping[str, object]
    path: str
    bindings: _Bindings

    def run(self) -> RunFunction:
        """The coroutine function of five parameters."""
        wanted = f"async def run({', '.join(RUN_PARAMETERS)})"
        if "run" not in self.exports:
            raise BadExport(
                "the file has no run",
                why=f"a script must define `{wanted}`",
                next_step="define it, or begin the file's name with _ if it only helps other files",
                path=self.path,
                line=1,
            )
        run: Any = self.exports["run"]
        if inspect.isasyncgenfunction(run):
            raise self.refusal("run", f"`{wanted}` that awaits db and never yields")
        if not inspect.iscoroutinefunction(run):
            raise self.refusal("run", f"`{wanted}`")
        try:
            inspect.signature(run).bind(*RUN_PARAMETERS)
        except (TypeError, ValueError) as misfit:
            refused = self.refusal("run", f"`{wanted}`")
            refused.what = f"run does not take the {len(RUN_PARAMETERS)} arguments: {misfit}"
            raise refused from None
        accepted: RunFunction = run
        return accepted

    def refuse_misspelt(self) -> None:
        """Raise for an assigned name that can only be a contract name gone wrong."""
        for name in sorted(self.bindings.assigned):
            value = self.exports.get(name)
            if name in EXPORTS or name.startswith("_") or name[0].isupper() or callable(value):
                continue
            meant = difflib.get_close_matches(name, EXPORTS, n=1, cutoff=MISSPELT_CUTOFF)
            if meant and meant[0] not in self.exports and not inspect.ismodule(value):
                raise BadExport(
                    f"unknown export {name}: did you mean {meant[0]}?",
                    why="as it is spelt it has no effect",
                    next_step=f"call it {meant[0]}, or _{name} if it is the file's own business",
                    path=self.path,
                    line=self.bindings.lines.get(name),
                )

    def names(
        self, export: str, default: tuple[str, ...], pattern: re.Pattern[str], such_as: str
    ) -> tuple[str, ...]:
        """A list, tuple or set of text, each wholly of ``pattern``, without doubles."""
        if export not in self.exports:
            return default
        value = self.exports[export]
        if not isinstance(value, list | tuple | set | frozenset):
            raise self.refusal(export, f"a list of {such_as}")
        for member in value:
            if not isinstance(member, str) or not pattern.fullmatch(member):
                raise self.refusal(export, f"a list of {such_as}; {_shown(member)} is none")
        ordered = sorted(value) if isinstance(value, set | frozenset) else value
        return tuple(dict.fromkeys(ordered))

    def flag(self, export: str, default: bool) -> bool:
        """True or False and nothing that merely counts as such."""
        value = self.exports.get(export, default)
        if not isinstance(value, bool):
            raise self.refusal(export, "True or False")
        return value

    def width(self) -> timedelta:
        """``import_window_duration``: a timedelta, or milliseconds as the specification has it."""
        export = "import_window_duration"
        value = self.exports.get(export, WIDTH)
        must_be = "a timedelta or a number of milliseconds, from 1 ms to 100 years"
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                value = timedelta(milliseconds=value)
            except (OverflowError, ValueError):  # infinite, not a number, or beyond all years
                raise self.refusal(export, must_be) from None
        if not isinstance(value, timedelta) or not WIDTH_LEAST <= value <= DURATION_MAX:
            raise self.refusal(export, must_be)
        return value

    def duration(self, export: str, default: Fallback, *, positive: bool) -> timedelta | Fallback:
        """A timedelta; a bare number is refused, since nobody could tell its unit."""
        value = self.exports.get(export, default)
        if value is None and default is None:
            return default
        must_be = f"a timedelta, {'more than' if positive else 'at least'} 0, at most 100 years"
        if not isinstance(value, timedelta) or not NO_TIME <= value <= DURATION_MAX:
            raise self.refusal(export, must_be)
        if positive and not value:
            raise self.refusal(export, must_be)
        return value

    def origin(self) -> tuple[datetime | None, timedelta | None]:
        """The moment where source time begins, or its age at enrolment, or neither."""
        value = self.exports.get("origin")
        if value is None:
            return None, None
        if isinstance(value, timedelta):
            return None, self.duration("origin", None, positive=True)
        must_be = "a datetime with a time zone, or a timedelta (so long before the first run)"
        if not isinstance(value, datetime) or value.utcoffset() is None:
            raise self.refusal("origin", must_be)
        try:
            return value.astimezone(UTC), None
        except OverflowError:  # 0001-01-01 east of Greenwich
            raise self.refusal("origin", must_be) from None

    def isolation(self) -> str | None:
        """ "inline", "isolated", or None: as the setting says."""
        value = self.exports.get("isolation")
        if value is None:
            return None
        if not isinstance(value, str) or value not in ISOLATIONS:
            raise self.refusal("isolation", '"inline" (there is no other yet)')
        return value

    def refusal(self, export: str, must_be: str) -> BadExport:
        """The error that says what ``export`` is and what it must be."""
        return BadExport(
            f"{export} is {_shown(self.exports[export])}",
            why=f"it must be {must_be}",
            next_step="correct it: the file is read again at the next tick",
            path=self.path,
            line=self.bindings.lines.get(export),
        )


class _Bindings(ast.NodeVisitor):
    """Lines where the statements of a module bind names (the last one counts).

    ``assigned`` are those bound by ``=``: a loop's variable or an import declares nothing.
    """

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.assigned: set[str] = set()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target)

    def _assign(self, target: ast.expr) -> None:
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.lines[part.id] = part.lineno
                self.assigned.add(part.id)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.lines[node.name] = node.lineno

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.lines[node.name] = node.lineno

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.lines[node.name] = node.lineno

    def visit_alias(self, node: ast.alias) -> None:
        self.lines[(node.asname or node.name).partition(".")[0]] = node.lineno


def _bindings(text: str) -> _Bindings:
    found = _Bindings()
    found.visit(ast.parse(text))
    return found


def _shown(value: object) -> str:
    """Type and short text of a value; a plugin's own __repr__ may fail as it likes."""
    kind = type(value).__name__
    if inspect.isasyncgenfunction(value):
        return "an async generator function"
    if inspect.isfunction(value):
        return f"{'an async' if inspect.iscoroutinefunction(value) else 'a plain'} function"
    try:
        shown = reprlib.repr(value)
    except Exception:
        return f"of type {kind}"
    return f"{shown} ({kind})"
