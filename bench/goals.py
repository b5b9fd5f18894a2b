"""What `make bench-engine` measured, and the goals it is held against (docs/bench.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.figures import Budget, budgets_table, rates_table, ratios
from bench.idle import Idle
from bench.peers import PGQUEUER, PROCRASTINATE, Measured, Peer
from bench.scratch import Rate
from bench.takeover import INTERVAL_SECONDS, LEASE_SECONDS, Takeover
from bench.tick import Tick
from bench.writing import ROWS, WAYS


@dataclass(slots=True)
class Report:
    """What was measured, one entry a round; what is missing has none."""

    pgbench: list[Rate] = field(default_factory=list)
    pgbench_10: list[Rate] = field(default_factory=list)
    """With 10 clients."""
    bare: list[Rate] = field(default_factory=list)
    literal: list[Rate] = field(default_factory=list)
    pgqueuer: list[Measured] = field(default_factory=list)
    procrastinate: list[Measured] = field(default_factory=list)
    first: list[Rate] = field(default_factory=list)
    """Of the daemon: runs that never ran before, each with a row in the history."""
    steady: list[Rate] = field(default_factory=list)
    """Of the daemon: the same runs again and again."""
    held: list[Rate] = field(default_factory=list)
    """The same while another session keeps an old snapshot."""
    writing: dict[str, list[Rate]] = field(default_factory=dict)
    """Runs that write, by their way."""
    ticks: list[Tick] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    idle: Idle | None = None


def written(report: Report, tick_tenants: int) -> str:
    """The figures as tables."""
    of_way = [report.writing.get(way, []) for way in WAYS]
    rates = rates_table(
        "runs",
        [
            ("pgbench -N c20 (transactions)", report.pgbench),
            ("pgbench -N c10 (transactions)", report.pgbench_10),
            ("bare SQL, claim + record", report.bare),
            ("the specification's literal way", report.literal),
            *_peer_lines(PGQUEUER, report.pgqueuer),
            *_peer_lines(PROCRASTINATE, report.procrastinate),
            ("daemon, first run of each", report.first),
            ("daemon, again", report.steady),
            ("daemon, an old snapshot held", report.held),
            *(
                (f"daemon, {ROWS} rows, {way}", rates)
                for way, rates in zip(WAYS, of_way, strict=True)
            ),
        ],
    )
    budgets = [
        *_rate_budgets(report),
        *_tick_budgets(report.ticks, tick_tenants),
        *_process_budgets(report),
    ]
    return f"{rates}\n{budgets_table(budgets)}"


def _peer_lines(peer: Peer, rounds: Sequence[Measured]) -> list[tuple[str, list[Rate]]]:
    settings = " or ".join(map(str, sorted({one.setting for one in rounds})))
    name = f"{peer.name}, {settings} {peer.unit}" if rounds else peer.name
    return [
        (name, [one.whole for one in rounds]),
        ("  without the enqueuing", [one.drain for one in rounds]),
    ]


def _rate_budgets(report: Report) -> list[Budget]:
    steady = report.steady
    together, plain = (report.writing.get(way, []) for way in WAYS)
    peers = {
        peer.name: ([one.whole for one in rounds], [one.drain for one in rounds])
        for peer, rounds in ((PGQUEUER, report.pgqueuer), (PROCRASTINATE, report.procrastinate))
    }
    budgets = [
        Budget("1", "daemon / pgbench -N c20", ratios(steady, report.pgbench), "2", "5"),
        Budget("", "  with a history row each", ratios(report.first, report.pgbench)),
        Budget("2", "daemon / the literal way", ratios(steady, report.literal), "4", "12"),
        Budget("", "daemon / bare SQL", ratios(steady, report.bare)),
    ]
    for row, (name, (whole, drain)), goals in zip(
        "34", peers.items(), (("1", "3"), ("10", "30")), strict=True
    ):
        budgets += [
            Budget(row, f"daemon / {name}", ratios(steady, whole), *goals),
            Budget("", "  without its enqueuing", ratios(steady, drain)),
        ]
    return [
        *budgets,
        Budget("5", "an old snapshot held / not held", ratios(report.held, steady), "0.5", "0.8"),
        Budget(
            "7",
            f"{ROWS} rows and ledger together / pgbench -N c10",
            ratios(together, report.pgbench_10),
            "0.3",
            "0.6",
        ),
        Budget("", "  rows, then the ledger by the record", ratios(plain, report.pgbench_10)),
    ]


def _tick_budgets(ticks: Sequence[Tick], tenants: int) -> list[Budget]:
    def of(figure: Callable[[Tick], float]) -> list[float]:
        return [figure(tick) for tick in ticks]

    what = f"tick to first claim, {tenants:,} x 5"
    stall = "  longest stall of the loop until then"
    return [
        Budget("6", what, of(lambda tick: tick.first_claim_ms), "500", "150", "ms"),
        # Of the first alone: what that took is there for the others.
        Budget("", "  added memory", of(lambda tick: tick.added_mb)[:1], "20", "5", "MB"),
        Budget("", "  peak memory of the process", of(lambda tick: tick.peak_mb)[:1], unit="MB"),
        Budget("", stall, of(lambda tick: tick.stall_ms), "", "20", "ms"),
        Budget(
            "", "  and until the last run ended", of(lambda tick: tick.stall_after_ms), unit="ms"
        ),
        Budget("", "  of it computing, at most", of(lambda tick: tick.busy_ms), unit="ms"),
    ]


def _process_budgets(report: Report) -> list[Budget]:
    idle = report.idle
    assert idle is not None
    bound = f"{LEASE_SECONDS + INTERVAL_SECONDS:.0f}"
    takeovers = report.takeovers
    return [
        Budget("13", "idle: resident memory", [idle.rss_mb], "100", "70", "MB"),
        Budget("", "  share of a core", [idle.share_percent], "1", "0.3", "%"),
        Budget("14", "SIGHUP to the first script", idle.reaction_ms, "250", "30", "ms"),
        Budget(
            "16",
            f"kill -9 to the last run of the dead begun, lease {LEASE_SECONDS:.0f} s"
            f" + tick {INTERVAL_SECONDS:.0f} s",
            [one.last_seconds for one in takeovers],
            bound,
            "",
            "s",
        ),
        Budget("", "  to the first", [one.first_seconds for one in takeovers], unit="s"),
    ]
