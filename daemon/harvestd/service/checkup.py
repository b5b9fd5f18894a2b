"""What `harvestd doctor` finds: each check is a function from facts to findings.

The facts are those of ``facts.py``; whoever reads them has reached the database already.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from harvestd import __version__
from harvestd.catalog.snapshot import Catalog
from harvestd.database.hardening import Hardening
from harvestd.database.migrations import OLDEST_SERVER
from harvestd.database.roles import MAKE_ROLES
from harvestd.errors import HarvestdError, SchemaRefused, SchemaTooOld
from harvestd.loading.breaches import Breach
from harvestd.service.facts import Facts
from harvestd.service.preparing import CORE_CONNECTIONS
from harvestd.service.status import ReplicaSeen
from harvestd.settings import Settings

NEWEST_SERVER = 190000
"""The first version that nobody has tried."""
GIB = 2**30
DISK_LOW_BYTES = 2 * GIB
DISK_FULL_BYTES = GIB // 4
CLOCKS_APART_SECONDS = 5.0
BREACHES_SHOWN_MAX = 50


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's; ``next_step`` says what to do unless it is ok."""

    check: str
    level: Level
    what: str
    next_step: str = ""


def check_here(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """What can be said without a database."""
    where = (
        "HARVESTD_DATABASE_URL"
        if settings.database_url is not None
        else f"the embedded database in {settings.data_dir}"
    )
    yield Finding("settings", Level.OK, f"harvestd {__version__} on {where}")
    scripts = len(catalog.scripts_of(catalog.sources))
    blocked = catalog.graph_for(frozenset(catalog.sources)).blocked
    if catalog.problems:
        yield Finding(
            "plugins",
            Level.FAIL,
            f"{len(catalog.problems)} problem(s), the first: {catalog.problems[0]}",
            "harvestd plugins shows all",
        )
    elif blocked:
        name, why = next(iter(blocked.items()))
        what = f"{len(blocked)} script(s) can never run here, the first: {name}: {why}"
        yield Finding("plugins", Level.FAIL, what, "harvestd plugins shows all")
    else:
        what = f"{scripts} script(s) of {len(catalog.sources)} data source(s)"
        yield Finding("plugins", Level.OK, what)
    yield check_disk("disk of DATA_DIR", settings.data_dir.expanduser())


def check_database(facts: Facts, settings: Settings, own_now: datetime) -> Iterator[Finding]:
    """What the facts say; ``own_now`` is this machine's clock when they were read."""
    yield _version(facts.server)
    yield _role(facts.server, keeper=facts.keeper)
    yield _schema(facts.schema)
    if facts.schema is None:
        yield from _wall(facts.missing, facts.breaches)
        yield _hardening(facts.hardening)
        yield from _source_schemas(facts.unapplied, facts.altered)
    yield _connections(facts.server, settings, max(1, len(facts.replicas)))
    yield from _doors(facts.server)
    yield _clock(facts.server, own_now)
    yield _database_disk(facts.server)
    if facts.schema is None:
        yield _replicas(facts.replicas, settings.lease_seconds)
        yield from _runs(facts.stuck)


def check_disk(check: str, folder: Path) -> Finding:
    """Room where ``folder`` is, or will be made."""
    there = next(
        (place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/")
    )
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(check, Level.WARN, f"{there}: {error.strerror}", "see who may read it")
    what = f"{size(free)} free in {there}"
    if free < DISK_FULL_BYTES:
        return Finding(check, Level.FAIL, what, "make room, or move it: HARVESTD_DATA_DIR")
    if free < DISK_LOW_BYTES:
        return Finding(check, Level.WARN, what, "make room before it is full")
    return Finding(check, Level.OK, what)


def size(number: float) -> str:
    """``3.4 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _version(server: Mapping[str, Any]) -> Finding:
    number = server["version_num"]
    what = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number < OLDEST_SERVER:
        return Finding("server", Level.FAIL, f"{what} is too old", "upgrade it to 15 or newer")
    if server["in_recovery"]:
        step = "give HARVESTD_DATABASE_URL the primary"
        return Finding("server", Level.FAIL, f"{what} is a standby, which cannot be written", step)
    if number >= NEWEST_SERVER:
        step = "15 to 18 are tried; tell us how it goes"
        return Finding("server", Level.WARN, f"{what} is newer than any that was tried", step)
    return Finding("server", Level.OK, what)


def _role(server: Mapping[str, Any], *, keeper: bool) -> Finding:
    role = f'the role "{server["role"]}"'
    if not (server["may_create_roles"] or keeper):
        step = MAKE_ROLES.format(role=server["role"])
        return Finding("role", Level.FAIL, f"{role} may not create roles", step)
    if not server["may_create_in_public"]:
        step = f'the owner runs: GRANT CREATE ON SCHEMA public TO "{server["role"]}";'
        what = f"{role} may not create tables in the schema public, which migrations may need"
        return Finding("role", Level.WARN, what, step)
    if not server["owns_database"]:
        step = "a database of harvestd's own, owned by its role, is the simplest"
        return Finding("role", Level.WARN, f"{role} does not own the database", step)
    makes = "has a keeper that makes roles" if keeper else "may create roles"
    return Finding("role", Level.OK, f"{role} owns the database and {makes}")


def _schema(trouble: HarvestdError | None) -> Finding:
    if trouble is None:
        return Finding("schema", Level.OK, "the schema is the one of this version")
    # Too old is what the next start mends, unless the text says otherwise.
    level = Level.WARN if isinstance(trouble, SchemaTooOld) else Level.FAIL
    what = trouble.what if not trouble.why else f"{trouble.what}; {trouble.why}"
    step = trouble.next_step or "update harvestd"
    return Finding("schema", level, what, step)


def _wall(missing: list[str], breaches: Sequence[Breach]) -> Iterator[Finding]:
    if missing:
        what = f"missing: {', '.join(missing)}"
        yield Finding("wall", Level.WARN, what, "harvestd migrate makes them")
    for breach in breaches[:BREACHES_SHOWN_MAX]:
        yield Finding("wall", Level.FAIL, breach.what, breach.mend)
    if (more := len(breaches) - BREACHES_SHOWN_MAX) > 0:
        step = "mend those above and look again"
        yield Finding("wall", Level.FAIL, f"and {more} more", step)
    if not missing and not breaches:
        what = "the roles, rights, policies and triggers that keep tenants apart are there"
        yield Finding("wall", Level.OK, what)


def _hardening(left: Sequence[Hardening] | None) -> Finding:
    """Never more than ok: nobody has to."""
    if left is None:
        what = "not looked at: for which roles is not known while some are missing, or in recovery"
        return Finding("hardening", Level.OK, what)
    if not left:
        return Finding("hardening", Level.OK, "done, as migrate --harden does it")
    taken = {one.taken for one in left} - {None}
    may = {"CONNECT": "connect to this database", "TEMPORARY": "make temporary tables in it"}
    still = [said for right, said in may.items() if right in taken]
    if taken - set(may):
        still.append("take advisory locks and the like")
    what = f"everybody may {', '.join(still)}"
    if not still:
        what = "taken from everybody, but not all is granted yet to harvestd's own roles"
    return Finding("hardening", Level.OK, f"{what} (docs/wall.md: migrate --harden)")


def _source_schemas(unapplied: list[str], altered: Sequence[HarvestdError]) -> Iterator[Finding]:
    check = "schemas of sources"
    if unapplied:
        what = f"schema.sql is not applied as it is here: {', '.join(unapplied)}"
        step = "the next cycle applies it; harvestd migrate says why where it is refused"
        yield Finding(check, Level.WARN, what, step)
    for error in altered:
        place = f"{error.path}: " if isinstance(error, SchemaRefused) else ""
        what = f"{place}{error.what}; {error.why}" if error.why else f"{place}{error.what}"
        yield Finding(check, Level.WARN, what, error.next_step)
    if not unapplied and not altered:
        yield Finding(check, Level.OK, "each schema.sql is applied, and what it made is there")


def _connections(server: Mapping[str, Any], settings: Settings, replicas: int) -> Finding:
    each = CORE_CONNECTIONS + settings.seats_max
    needed, there = replicas * each, server["max_connections"]
    what = (
        f"{replicas} replica(s) × ({CORE_CONNECTIONS} + SEATS_MAX {settings.seats_max}) = "
        f"{needed} of {there}; {server['connections']} are open now"
    )
    step = "raise max_connections, or lower HARVESTD_SEATS_MAX"
    if needed > there:
        return Finding("connections", Level.FAIL, what, step)
    if needed > 0.8 * there:
        return Finding("connections", Level.WARN, f"{what}: that leaves few for others", step)
    return Finding("connections", Level.OK, what)


def _doors(server: Mapping[str, Any]) -> Iterator[Finding]:
    """Server settings that let SQL of a script do what nothing else could forbid."""
    prepared = server["max_prepared_transactions"]
    if prepared:
        yield Finding(
            "prepared transactions",
            Level.WARN,
            f"max_prepared_transactions is {prepared}: SQL of a script may lock its run for ever",
            "set it to 0 unless something else needs it",
        )
    else:
        yield Finding("prepared transactions", Level.OK, "none are admitted")
    if server["lo_compat_privileges"]:
        yield Finding(
            "large objects",
            Level.WARN,
            "lo_compat_privileges is on: SQL of a script may read everybody's large objects",
            "ALTER SYSTEM RESET lo_compat_privileges, unless an old application needs it",
        )
    else:
        yield Finding("large objects", Level.OK, "their rights are asked for")


def _clock(server: Mapping[str, Any], own_now: datetime) -> Finding:
    apart = (own_now - server["now"]).total_seconds()
    what = f"this machine's clock and the database's are {abs(apart):.1f} s apart"
    if abs(apart) > CLOCKS_APART_SECONDS:
        step = "let both follow NTP; leases and windows go by the database's, logs by this one's"
        return Finding("clock", Level.WARN, what, step)
    return Finding("clock", Level.OK, what)


def _database_disk(server: Mapping[str, Any]) -> Finding:
    folder, stored = server["data_directory"], size(server["database_bytes"])
    name = "disk of the database"
    if not (server["local"] and folder):
        return Finding(name, Level.OK, f"{stored} stored; its disk cannot be seen from here")
    found = check_disk(name, Path(folder))
    return Finding(name, found.level, f"{stored} stored, {found.what}", found.next_step)


def _replicas(replicas: Iterable[ReplicaSeen], lease_seconds: float) -> Finding:
    seen = list(replicas)
    if not seen:
        step = "harvestd run starts one"
        return Finding("replicas", Level.WARN, "none is running", step)
    silent = [one for one in seen if one.silent_seconds > (one.lease_seconds or lease_seconds)]
    if silent:
        names = ", ".join(f"{one.host} pid {one.pid}" for one in silent)
        step = "the next replica that runs takes over; see why it is silent"
        return Finding("replicas", Level.WARN, f"silent for longer than a lease: {names}", step)
    if homeless := [one for one in seen if not one.houses]:
        names = ", ".join(f"{one.host} pid {one.pid}" for one in homeless)
        step = "nothing, if it drains or runs once; else its log has cycle_failed, and why"
        return Finding("replicas", Level.WARN, f"no tenant is at home with {names}", step)
    versions = sorted({one.version for one in seen})
    what = f"{len(seen)} running, version {', '.join(versions)}"
    if versions != [__version__]:
        step = "update those that differ, unless you are in the middle of it"
        return Finding("replicas", Level.WARN, f"{what}; this is {__version__}", step)
    for one in seen:
        if one.lacks:
            what = f"{one.host} pid {one.pid} lacks {', '.join(one.lacks)}, which another has"
            step = "deploy the same plugins everywhere; until then others take its tenants"
            return Finding("replicas", Level.WARN, what, step)
    return Finding("replicas", Level.OK, what)


def _runs(stuck: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    steps = {
        "held by the silent": "the next replica that runs frees them: harvestd run",
        "overdue": "see that a replica runs (harvestd status), and how busy it is",
        "failing": "harvestd status TENANT says why, and what to do",
    }
    found = False
    for row in stuck:
        found = True
        what = f"{row['runs']} run(s) {row['kind']}, for example {row['example']}"
        yield Finding("runs", Level.WARN, what, steps[row["kind"]])
    if not found:
        yield Finding("runs", Level.OK, "none is overdue, failing, or held by a silent replica")


def own_clock() -> datetime:
    """This machine's clock, only to be compared with the database's."""
    return datetime.now(UTC)
