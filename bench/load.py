"""`make bench-load`: rows a second through `db.upsert`, held against what PostgreSQL could.

Rows 8 to 12 of the goal table (docs/bench.md): 8 columns, the wall on, fresh rows, the same rows
all changed, and read again as they were; beside the server alone, the same without the wall, and
other programs.  Ratios only inside a round.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Budget, budgets_table, machine, rates_table, ratios
from bench.items import PASSES
from bench.loaders import (
    DLT_ARROW,
    DLT_DICTS,
    DLT_PARQUET,
    LOADERS,
    OTHERS,
    Loader,
    check_target,
    measure_loader,
    measure_server,
    prepare_target,
    run_copy,
    run_row_by_row,
)
from bench.peers import find_python
from bench.replica import migrate, seed, void, with_app, write_plugins
from bench.scratch import (
    Rate,
    Server,
    execute,
    in_child,
    postmaster_of,
    say,
    scratch_database,
    scratch_server,
)
from bench.upserting import BARE, BARE_SCHEMA, SCHEMA, SCRIPT, Loaded, upserting
from harvestd.cli.serving import forced_cycle
from harvestd.service.app import App


@dataclass(frozen=True, slots=True)
class Options:
    """How long it may take."""

    rounds: int = 3
    seconds: float = 3.0
    """Of the literal way, which is too slow to load all rows."""
    rows: int = 300_000


@dataclass(slots=True)
class Report:
    """What was measured, one entry a round; what is missing has none."""

    server: dict[str, list[Rate]] = field(default_factory=dict)
    daemon: dict[str, list[Rate]] = field(default_factory=dict)
    bare: dict[str, list[Rate]] = field(default_factory=dict)
    """The daemon's `db` without the wall."""
    loaded: list[Loaded] = field(default_factory=list)
    copy: list[Rate] = field(default_factory=list)
    literal: list[Rate] = field(default_factory=list)
    loaders: dict[str, dict[str, list[Rate]]] = field(default_factory=dict)

    def of(self, loader: Loader, one: str) -> list[Rate]:
        """The rates of another program in one pass."""
        return self.loaders.get(loader.way, {}).get(one, [])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--rows", type=int, default=usual.rows)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="row by row")
    options = Options(**vars(parser.parse_args(arguments)))
    python = find_python()
    if python is None:
        say("no peers here (make bench-peers): their figures will be missing")
    with scratch_server() as server:
        before = machine(server)
        report = measure(server, options, python)
        print(f"\n{before}, {options.rows:,} rows\n\n{written(report)}")
    return 0


def measure(server: Server, options: Options, python: Path | None) -> Report:
    """Every round: the server alone, the daemon with and without the wall, and all others."""
    report = Report()
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        with scratch_database(server) as database:
            _keep(report.server, measure_server(database, options.rows), "server only")
        with scratch_database(server) as database:
            loaded = measure_daemon(database, options.rows, bare_first=number % 2 == 0)
        report.loaded.append(loaded)
        _keep(report.daemon, loaded.walled, "db.upsert")
        _keep(report.bare, loaded.bare, "without the wall")
        with scratch_database(server) as database:
            prepare_target(database, 0)
            rate = in_child(run_copy, database.url, options.rows)
            check_target(database, "public.target", options.rows, score=0)
        _keep({"fresh": report.copy}, {"fresh": rate}, "plain COPY")
        with scratch_database(server) as database:
            prepare_target(database, 0)
            rate = in_child(run_row_by_row, database.url, options.rows, options.seconds)
        _keep({"fresh": report.literal}, {"fresh": rate}, "row by row")
        for loader in LOADERS if python is not None else ():
            assert python is not None
            rows = max(1, round(loader.share * options.rows))
            with scratch_database(server) as database:
                measured = measure_loader(python, database, loader, rows)
            _keep(report.loaders.setdefault(loader.way, {}), measured, loader.name)
    return report


def _keep(kept: dict[str, list[Rate]], measured: dict[str, Rate], name: str) -> None:
    for one, rate in measured.items():
        kept.setdefault(one, []).append(rate)
        say(f"  {name:23} {one:10} {rate.per_second:9,.0f} rows/s")


def measure_daemon(database: Server, rows: int, *, bare_first: bool = False) -> Loaded:
    """One run of the whole daemon in a process of its own, all passes in it."""
    plugins = write_plugins(
        database.folder / "load plugins", {"noop/item.py": SCRIPT, "noop/schema.sql": SCHEMA}
    )
    return in_child(_passes_in_child, database, plugins, rows, bare_first)


def _passes_in_child(database: Server, plugins: Path, rows: int, bare_first: bool) -> Loaded:
    migrate(database)
    execute(database.url, *BARE_SCHEMA)
    upserting.server, upserting.rows, upserting.bare_first = database, rows, bare_first
    upserting.postmaster = postmaster_of(database.url)

    async def once(app: App) -> Loaded:
        await asyncio.to_thread(seed, database, 1)
        await forced_cycle(app)
        return upserting.loaded

    loaded = with_app(database, plugins, once)
    if len(loaded.walled) != 4 or len(loaded.bare) != len(PASSES):
        raise void(database, f"only {[*loaded.walled]} and {[*loaded.bare]} were loaded")
    for table in ("noop.item", f"{BARE}.item"):
        check_target(database, table, rows, score=1)
    return loaded


def written(report: Report) -> str:
    """The figures as tables."""
    rates = rates_table(
        "rows",
        [
            *((f"server only, {one}", rates) for one, rates in report.server.items()),
            ("plain COPY, fresh", report.copy),
            *((f"db.upsert, {one}", rates) for one, rates in report.daemon.items()),
            *((f"  without the wall, {one}", rates) for one, rates in report.bare.items()),
            ("row by row, fresh", report.literal),
            *(
                (f"{loader.name}, {one}", report.of(loader, one))
                for loader in LOADERS
                for one in loader.passes
            ),
        ],
    )
    return f"{rates}\n{budgets_table([*_speed(report), *_side_effects(report)])}"


def _speed(report: Report) -> list[Budget]:
    daemon, server = report.daemon, report.server
    fresh, again = (daemon[one] for one in PASSES)
    dicts, arrow, parquet = (DLT_DICTS, DLT_ARROW, DLT_PARQUET)
    what = "db.upsert / server only, fresh"
    return [
        Budget("8", what, ratios(fresh, server["fresh"]), "0.4", "0.6"),
        Budget("", "  all rows changed", ratios(again, server["again"]), "0.5", "0.75"),
        Budget("", "db.upsert / plain COPY, fresh", ratios(fresh, report.copy)),
        Budget("", "db.upsert / row by row, fresh", ratios(fresh, report.literal)),
        Budget(
            "9", f"db.upsert / {dicts.name}", ratios(fresh, report.of(dicts, "fresh")), "5", "9"
        ),
        Budget("", "  all rows changed", ratios(again, report.of(dicts, "again"))),
        Budget(
            "", f"db.upsert / {arrow.name}", ratios(fresh, report.of(arrow, "fresh")), "1.3", "2"
        ),
        Budget("", "  all rows changed", ratios(again, report.of(arrow, "again"))),
        Budget("", f"db.upsert / {parquet.name}", ratios(fresh, report.of(parquet, "fresh"))),
        Budget("", "  all rows changed", ratios(again, report.of(parquet, "again"))),
        *(
            Budget("", f"db.upsert / {one.name}, fresh", ratios(fresh, report.of(one, "fresh")))
            for one in OTHERS
        ),
    ]


def _side_effects(report: Report) -> list[Budget]:
    daemon, bare, loaded = report.daemon, report.bare, report.loaded
    unchanged, rewritten = daemon["unchanged"], daemon["rewritten"]
    dead = [float(one.dead_tuples["unchanged"]) for one in loaded]
    # Of the first alone: each process begins anew, and has the same to do.
    memory = [(one.added_mb["tenth"], one.added_mb["fresh"]) for one in loaded]
    cost = {one: [100 * (1 - r) for r in ratios(daemon[one], bare[one])] for one in PASSES}
    cpu = {
        one: [
            100 * (on.server_us / off.server_us - 1)
            for on, off in zip(daemon[one], bare[one], strict=True)
            if off.server_us
        ]
        for one in PASSES
    }
    return [
        Budget("10", "unchanged rows / written anyway", ratios(unchanged, rewritten), "1.4", "1.7"),
        Budget("", "  dead tuples made by them", dead, "0", "0"),
        Budget("11", "memory added by all rows", [full for _, full in memory], "25", "10", "MB"),
        Budget("", "  by a tenth of them", [tenth for tenth, _ in memory], unit="MB"),
        Budget("12", "rows/s that the wall costs, fresh", cost["fresh"], "25", "10", "%"),
        Budget("", "  all rows changed", cost["again"], "25", "10", "%"),
        Budget("", "  more CPU of PostgreSQL, fresh", cpu["fresh"], unit="%"),
        Budget("", "  all rows changed", cpu["again"], unit="%"),
    ]


if __name__ == "__main__":
    sys.exit(main())
