"""`harvestd try`: for the author of a plugin; what the script would write, and nothing of it."""

from __future__ import annotations

import contextlib
import getpass
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harvestd.catalog.discover import Source
from harvestd.catalog.script import Script
from harvestd.catalog.snapshot import Catalog
from harvestd.cli import explain
from harvestd.cli.looping import run_beside_scripts
from harvestd.cli.moments import moment
from harvestd.cli.names import check_limit, overview_of, refuse_unknown_tenant, unknown
from harvestd.cli.output import (
    UsageError,
    count,
    lasting,
    minute,
    note,
    print_json,
    print_rows,
    print_told,
)
from harvestd.cli.plugins import file_of, read_catalog
from harvestd.cli.reach import command_settings, reached
from harvestd.database.migrations import check_schema
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError
from harvestd.execution.runner import cache_folder
from harvestd.loading.schemas import unapplied_schemas
from harvestd.loading.trial import TableTried
from harvestd.observing.logs import configure
from harvestd.planning.window import backwards, window_end
from harvestd.service.status import Status
from harvestd.service.trying import Asked, Tried, try_script
from harvestd.tenants.config import Env
from harvestd.terms import RunKey, ScriptName, Window

LINE_SECONDS = 1.0
LIMITS = range(0, 10_001)
FILE_BYTES_MAX = 1_000_000
ASSIGNMENT = re.compile(r"(?:export\s+)?(?P<key>[^\s=#][^=]*?)\s*=(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of the window, the environment and the rows to be shown."""

    since: str | None
    until: str | None
    keys: Sequence[str]
    env_file: str | None
    limit: int


def try_plugin(name: str, tenant_id: str | None, options: Options, *, as_json: bool) -> int:
    """One call of a script, rolled back; the exit code: 1 if it fails."""
    _refuse_values(options.keys)
    if tenant_id is None:
        raise UsageError(
            "try needs --tenant",
            why="a script runs for one tenant, with its configuration, and sees its rows only",
            next_step=f"harvestd try {name} --tenant TENANT",
        )
    check_limit(options.limit, LIMITS, f"harvestd try {name} --tenant {tenant_id} --limit 10")
    settings = command_settings(log_level="info")
    configure(settings)
    catalog = read_catalog(settings)
    script = chosen_script(catalog, name)
    key = RunKey(tenant_id, script.name.source, script.name.script)
    given = {**_from_file(options.env_file), **_from_prompts(options.keys)}

    async def work(url: str) -> tuple[Asked, Tried]:
        async with Database(url) as database:
            roles, now = await _prepare(database, catalog.sources[key.source], key)
            stored = await Status(database).env_of(key.tenant_id, key.source)
            asked = Asked(
                key,
                script,
                _window(script, options, now),
                Env({**stored, **given}, tenant_id=key.tenant_id, source=key.source),
                catalog.sources[key.source].plain_keys,
                rows_max=options.limit,
            )
            note(f"trying {script.name} for {tenant_id} over {_shown(asked.window)}")
            _note_width(script, asked.window)
            with tempfile.TemporaryDirectory(prefix="harvestd-try-") as folder:
                tried = await try_script(
                    database,
                    roles,
                    settings,
                    asked,
                    cache_folder=cache_folder(Path(folder), key.tenant_id, key.source),
                    report_progress=_Progress().tell,
                )
            return asked, tried

    with reached(settings, own=False, makes=False) as at, contextlib.redirect_stdout(sys.stderr):
        asked, tried = run_beside_scripts(work(at.url))
    place = _place(tried, file_of(catalog, script.name))
    if as_json:
        print_json(_document(asked, tried, place))
    else:
        _print(tried, options.limit)
    if tried.error is not None:
        about = f"harvestd: {place}" if place else f"harvestd: {script.name}"
        print_told(about, explain.as_told(tried.error), sys.stderr)
        return 1
    return 0


def chosen_script(catalog: Catalog, name: str) -> Script:
    """The script called ``source/script``.

    Raises: UsageError, Unknown; HarvestdError, with its problem, for one that cannot be used.
    """
    source, slash, script = name.partition("/")
    if not slash:
        raise UsageError(
            f"{name!r} is not SOURCE/SCRIPT",
            why="a script is named by its data source's folder and its file, without .py",
            next_step="harvestd plugins lists them",
        )
    found = catalog.script(ScriptName(source, script))
    if found is not None:
        return found
    for problem in catalog.problems:
        if problem.source == source and problem.script in (script, None):
            told = explain.as_told(problem.what)
            raise HarvestdError(
                f"{problem.place}: {told.what}", why=told.why, next_step=told.next_step
            )
    raise unknown("script", name, [str(one.name) for one in catalog.scripts_of(catalog.sources)])


async def _prepare(database: Database, source: Source, key: RunKey) -> tuple[Roles, datetime]:
    """Refuse what cannot be tried; the roles, and the database's clock."""
    status = Status(database)
    async with closing(await database.connect("try")) as connection:
        await check_schema(connection)
        overview = await overview_of(status)
        roles = Roles(overview.hex)
        if await unapplied_schemas(connection, roles, [source]):
            raise HarvestdError(
                f"the tables of {source.name} are not those of its schema.sql",
                why="a trial keeps nothing, so it makes no tables either",
                next_step="harvestd migrate, which says where the file is refused",
            )
    await refuse_unknown_tenant(status, key.tenant_id)
    runs = await status.runs_of(key.tenant_id)
    if any(
        run.held_by and (run.data_source, run.script) == (key.source, key.script) for run in runs
    ):
        note("a replica works on this run right now: each may have to wait for the other's rows")
    return roles, overview.now


def _window(script: Script, options: Options, now: datetime) -> Window:
    since, until = options.since, options.until
    latest = window_end(now, script.visibility_lag)
    end = latest if until is None else moment("--to", until, now)
    start = backwards(end, script.width) if since is None else moment("--from", since, now)
    if start >= end or end > now:
        raise UsageError(
            f"{minute(start)} – {minute(end)} is no window",
            why="it begins before it ends, and nothing in the future can be read; times are UTC",
            next_step="harvestd try SOURCE/SCRIPT --tenant TENANT --from 1d",
        )
    return Window(start, end)


def _note_width(script: Script, window: Window) -> None:
    """Say that a run would be handed ``window`` in parts, if it would."""
    length = window.end - window.start
    if script.catch_up and length > script.width + script.lookback:
        note(
            f"a run is handed this in {-(-length // script.width):,} windows, of "
            f"{lasting(script.width.total_seconds())} at most (import_window_duration); "
            "here it is one call"
        )


def _from_file(env_file: str | None) -> dict[str, str]:
    """KEY=VALUE lines of a file or, with ``-``, of standard input; # begins a comment line."""
    if env_file is None:
        return {}
    try:
        if env_file == "-":
            text = sys.stdin.buffer.read(FILE_BYTES_MAX).decode("utf-8")
        else:
            text = Path(env_file).expanduser().read_bytes()[:FILE_BYTES_MAX].decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--env-file {env_file} cannot be read",
            why=getattr(error, "strerror", None) or "it is not UTF-8",
            next_step="give a file of KEY=VALUE lines, or - for standard input",
        ) from None
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = ASSIGNMENT.fullmatch(line.strip())
        if found is None:
            raise UsageError(
                f"--env-file {env_file}, line {number} is not KEY=VALUE",
                why="the line itself is not repeated here, since it may hold a secret",
                next_step="write KEY=VALUE; a line that begins with # is a comment",
            )
        value = found["value"].strip()
        quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
        values[found["key"]] = value[1:-1] if quoted else value
    return values


def _refuse_values(keys: Sequence[str]) -> None:
    """Raise UsageError for a value that was given as an argument, without repeating it."""
    if any("=" in key for key in keys):
        raise UsageError(
            "--env takes the KEY only, and asks for its value",
            why="an argument is seen by everybody who lists processes, and kept by the shell; "
            "a value that was given as one is not repeated here",
            next_step="--env KEY, or --env-file FILE; change a secret that was given here",
        )
    if keys and not sys.stdin.isatty():
        raise UsageError(
            "--env asks at a terminal, and there is none",
            why="values never come from the command line",
            next_step="--env-file FILE, or --env-file - and KEY=VALUE lines on standard input",
        )


def _from_prompts(keys: Sequence[str]) -> dict[str, str]:
    """The value of each key from a hidden prompt."""
    return {key: getpass.getpass(f"{key} (not shown): ", stream=sys.stderr) for key in keys}


class _Progress:
    """A line a second at most, of what the script says."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def tell(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told_at >= LINE_SECONDS or done == total:
            self._told_at = now
            note(f"progress: {done:,}" + (f" of {total:,}" if total else ""))


def _print(tried: Tried, limit: int) -> None:
    seen = tried.seen
    for table in seen.tables:
        print(f"{table.schema}.{table.name}: {_counts(table)}")
        if table.rows:
            print_rows(table.columns, table.rows)
        if limit and len(table.rows) == limit:
            note(f"only the first {count(limit, 'row')} shown; --limit N shows more")
        print()
    if not seen.tables:
        note("it would write no row")
    if seen.bookmarks:
        note(f"it would set {count(len(seen.bookmarks), 'bookmark')}: {', '.join(seen.bookmarks)}")
    if seen.checkpoint is not None:
        note(f"its last checkpoint: {minute(seen.checkpoint)}")
    note("rolled back: nothing of it was kept")


def _counts(table: TableTried) -> str:
    parts = {"inserted": table.inserted, "changed": table.updated, "deleted": table.deleted}
    return ", ".join(f"{number:,} {word}" for word, number in parts.items() if number)


def _shown(window: Window) -> str:
    return f"{minute(window.start)} – {minute(window.end)}"


def _place(tried: Tried, file: Path | None) -> str:
    """Where in the plugin's folder it failed: file and line."""
    if file is None:
        return ""
    ours = [place for place in tried.places if place.startswith(f"{file.parent}/")]
    return ours[-1].rpartition(" ")[0] if ours else ""


def _document(asked: Asked, tried: Tried, place: str) -> dict[str, object]:
    told = explain.as_told(tried.error) if tried.error is not None else None
    return {
        "tenant_id": asked.key.tenant_id,
        "data_source": asked.key.source,
        "script": asked.key.script,
        "from": asked.window.start,
        "to": asked.window.end,
        "tables": tried.seen.tables,
        "bookmarks": tried.seen.bookmarks,
        "checkpoint": tried.seen.checkpoint,
        "error": None
        if told is None
        else {"what": told.what, "why": told.why, "next": told.next_step, "place": place or None},
    }
