"""Migrations, adoption, roles and the wall on other versions of PostgreSQL and on hardened
databases, in test runs of their own.

PostgreSQL 15 (`apt-get install postgresql-15`) is the oldest that harvestd takes; roles differ
there.  With REQUIRE_TOOLS=1 (CI) its absence is a failure, otherwise this is skipped and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harvestd.database.embedded_programs import find_server_user
from tests.clusters import HARDENED_VARIABLE, VERSION_VARIABLE, find_server_programs
from tests.tools import is_missing

HERE = Path(__file__).parent
HOSTILE = ("../wall", "../loading/test_seats.py", "../service/test_hostile_scripts.py")
TESTS = (
    (
        "15",
        "as it is",
        (
            "test_migrations.py",
            "adoption",
            "test_hand_set_date.py",
            "roles",
            "test_statements.py::test_a_statement_can_be_prepared",
            "../runs",
            "../service/test_daemon.py",
        ),
    ),
    (
        "15",
        "as it is",  # the wall
        (
            "../loading/test_schemas.py",
            "../loading/test_schemas_wall.py",
            "../loading/test_comparison.py",
            "../loading/test_edits.py",
            "../loading/test_empty_schema.py",
            "../loading/test_mends.py",
            "../loading/test_previews.py",
            "../loading/test_breaches.py",
            "../loading/test_policies_in_plans.py",
            "../loading/test_stream.py",
            "../cli/test_readers.py",
        ),
    ),
    (
        "15",
        "as it is",  # who may do what
        (
            "../cli/test_harden.py",
            "../cli/test_without_createrole.py",
        ),
    ),
    (
        "15",
        "as it is",
        ("../loading/test_schemas_refused.py", "../loading/test_schemas_grants.py", *HOSTILE),
    ),
    ("15", "hardened", HOSTILE),
    ("18", "hardened", HOSTILE),
    ("16", "as it is", ("roles", "../loading/test_schemas.py")),  # where memberships changed
)
SECONDS = 280


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("version", "state", "files"), TESTS)
def test_the_database_tests_pass_on_version(
    version: str, state: str, files: Sequence[str], tmp_path: Path
) -> None:
    if find_server_programs(version, find_server_user(), tmp_path) is None:
        is_missing(f"no PostgreSQL {version} here (apt-get install postgresql-{version})")

    tests = [str(HERE / name) for name in files]
    hardened = {HARDENED_VARIABLE: "1"} if state == "hardened" else {}
    options = ["-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        env=os.environ | {VERSION_VARIABLE: version} | hardened,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
