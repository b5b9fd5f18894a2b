"""`harvestd check`: what is wrong with the data sources, and what each schema.sql would do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harvestd.cli import explain
from harvestd.cli.names import unknown
from harvestd.cli.output import (
    DONE,
    FAILED,
    UNREACHABLE,
    count,
    exit_code,
    note,
    print_json,
    print_told,
    say_error,
)
from harvestd.cli.plugins import describe_problem, problems_of, read_catalog
from harvestd.cli.reach import command_settings, reached
from harvestd.database.migrations import check_schema
from harvestd.database.pool import Database, closing
from harvestd.database.roles import Roles
from harvestd.errors import HarvestdError, SchemaRefused
from harvestd.loading.refusals import check_name, checked_statements
from harvestd.loading.schemas import Preview, preview_schema
from harvestd.service.status import Status
from harvestd.settings import Settings


@dataclass(slots=True)
class Checked:
    """What was found; the fields are those of the JSON."""

    scripts: int = 0
    problems: list[dict[str, object]] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    schemas: list[dict[str, object]] = field(default_factory=list)
    without_database: str | None = None
    """Why each schema.sql was only read."""

    def exit_code(self, error: HarvestdError | None) -> int:
        """``error``: why no database was asked; one that cannot be reached outweighs the rest."""
        if error is not None and exit_code(error) == UNREACHABLE:
            return UNREACHABLE
        refused = any(one["refused"] or one["altered"] for one in self.schemas)
        return FAILED if self.problems or self.blocked or refused else DONE


def check_sources(names: Sequence[str], *, as_json: bool) -> int:
    """Check the named data sources, or all; the exit code."""
    settings = command_settings()
    catalog = read_catalog(settings)
    known = {*catalog.sources, *(one.source for one in catalog.problems if one.source)}
    for name in names:
        if name not in known:
            raise unknown("data source", name, known)
    wanted = set(names) or known
    problems = problems_of(catalog, wanted if names else None)
    texts = {
        name: source.schema_sql
        for name, source in sorted(catalog.sources.items())
        if name in wanted and source.schema_sql is not None
    }
    previews, error = _preview_all(settings, texts)
    blocked = catalog.graph_for(frozenset(catalog.sources)).blocked
    checked = Checked(
        scripts=len(catalog.scripts_of(wanted & catalog.sources.keys())),
        problems=[dict(describe_problem(one)) for one in problems],
        blocked={str(name): said for name, said in blocked.items() if name.source in wanted},
        schemas=[
            _document(name, preview, asked=error is None) for name, preview in previews.items()
        ],
        without_database=None if error is None else error.what,
    )
    code = checked.exit_code(error)
    if as_json:
        print_json(checked)
        return code
    for problem in problems:
        print_told(problem.place, explain.as_told(problem.what), sys.stderr)
    for script, said in checked.blocked.items():
        print_told(f"{script} can never run here", explain.as_told(said), sys.stderr)
    for name, preview in previews.items():
        _print(name, preview, read_only=error is not None)
    if error is not None and code == UNREACHABLE:
        say_error(error)
    if error is not None and texts:
        note(f"each schema.sql was only read: {error.what}")
    sources = count(len(wanted), "data source")
    verdict = {DONE: "nothing is wrong", FAILED: "something has to be mended"}.get(
        code, "the database was not asked"
    )
    print(f"{sources}, {count(checked.scripts, 'script')}: {verdict}")
    return code


def _preview_all(
    settings: Settings, texts: dict[str, str]
) -> tuple[dict[str, Preview], HarvestdError | None]:
    """What each text would do, and why none could be tried where there is no database for it."""

    async def ask(url: str) -> dict[str, Preview]:
        async with Database(url) as database:
            async with closing(await database.connect("check")) as connection:
                await check_schema(connection)
            overview = await Status(database).overview()
            if overview is None:
                raise HarvestdError("its roles are made by harvestd migrate")
            roles = Roles(overview.hex)
            return {
                name: await preview_schema(database, roles, source=name, schema_sql=text)
                for name, text in texts.items()
            }

    try:
        with reached(settings, own=False, makes=False) as at:
            return asyncio.run(ask(at.url)), None
    except HarvestdError as error:
        return {name: _read(name, text) for name, text in texts.items()}, error


def _read(source: str, text: str) -> Preview:
    """What can be known of a file without any server."""
    try:
        check_name(source)
        checked_statements(source, text)
    except SchemaRefused as refused:
        return Preview(refused=refused)
    return Preview()


def _print(source: str, preview: Preview, *, read_only: bool) -> None:
    about = f"{source}/schema.sql"
    wrong = preview.refused or preview.altered
    if wrong is not None:
        print_told(f"{source}: {wrong.place}", wrong, sys.stderr)
    elif not read_only:
        for line in _told(preview):
            print(f"{about}: {line}")


def _told(preview: Preview) -> Iterator[str]:
    if preview.applied:
        yield "applied as it is"
    elif preview.unfinished:
        yield "takes longer than a preview may; what it would do is not known"
    else:
        for line in preview.changes or ("would change nothing",):
            yield f"would {line}" if preview.changes else line
        for kept in preview.kept:
            yield f"keeps {kept}, which the file has no more"


def _document(source: str, preview: Preview, *, asked: bool) -> dict[str, object]:
    return {
        "data_source": source,
        "applied": preview.applied if asked else None,
        "changes": preview.changes,
        "kept": preview.kept,
        "unfinished": preview.unfinished,
        "refused": None if preview.refused is None else str(preview.refused),
        "altered": None if preview.altered is None else str(preview.altered),
    }
