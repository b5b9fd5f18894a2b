"""The laws of homes: one for each tenant, the same everywhere, and few moves."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import pytest

from harvestd.tenants.homes import homes_among
from tests.processes import environment

TENANTS = [f"tenant-{number:05d}" for number in range(20_000)]
REPLICAS = [UUID(int=number << 64) for number in range(1, 17)]


def among(count: int) -> frozenset[UUID]:
    return frozenset(REPLICAS[:count])


def homes(living: frozenset[UUID]) -> dict[str, UUID | None]:
    home_of = homes_among(living)
    return {tenant_id: home_of(tenant_id) for tenant_id in TENANTS}


def other_kinds_of_ids() -> Iterator[list[str]]:
    yield [str(number) for number in range(20_000)]
    yield [
        str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
        for number in range(20_000)
    ]
    yield [f"Müller & Söhne № {number}" for number in range(20_000)]


def test_nobody_has_a_home_where_nobody_lives_and_the_only_one_houses_all() -> None:
    assert set(homes(frozenset()).values()) == {None}
    assert set(homes(among(1)).values()) == {REPLICAS[0]}


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_only_tenants_of_the_lost_replica_move(count: int) -> None:
    before = homes(among(count))
    for lost in among(count):
        after = homes(among(count) - {lost})

        assert all(after[one] == before[one] for one in TENANTS if before[one] != lost)
        assert lost not in after.values()


@pytest.mark.parametrize("count", [1, 2, 4, 15])
def test_tenants_move_to_a_newcomer_and_nowhere_else(count: int) -> None:
    before, after = homes(among(count)), homes(among(count + 1))
    moved = [one for one in TENANTS if before[one] != after[one]]

    assert {after[one] for one in moved} == {REPLICAS[count]}
    assert len(moved) == pytest.approx(len(TENANTS) / (count + 1), rel=0.25)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_tenants_spread_evenly_whatever_their_ids_look_like(count: int) -> None:
    home_of = homes_among(among(count))
    for tenant_ids in (TENANTS, *other_kinds_of_ids()):
        counted = Counter(map(home_of, tenant_ids))

        assert len(counted) == count
        for tenants in counted.values():
            assert tenants == pytest.approx(len(tenant_ids) / count, rel=0.1)


def test_another_process_finds_the_same_homes() -> None:
    program = (
        "from uuid import UUID; from harvestd.tenants.homes import homes_among\n"
        "home = homes_among(frozenset(UUID(int=n << 64) for n in range(1, 6)))\n"
        "print(*(home(f'tenant-{n:05d}').int >> 64 for n in range(200)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | {"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    home_of = homes_among(among(5))
    own = [home_of(tenant_id) for tenant_id in TENANTS[:200]]

    assert [UUID(int=int(word) << 64) for word in answer.stdout.split()] == own


def test_a_tenant_whose_home_lacks_a_script_has_it_with_the_next_that_has_it() -> None:
    living = among(5)
    plain = homes_among(living)
    for tenant_id in TENANTS[:200]:
        first = plain(tenant_id)
        assert first is not None
        home = homes_among(living, {tenant_id: [first]})(tenant_id)

        assert home == homes_among(living - {first})(tenant_id)
        assert homes_among(living, {"another": [first]})(tenant_id) == first


def test_a_tenant_stays_at_home_where_nobody_has_all_of_its_scripts() -> None:
    living = among(3)
    for tenant_id in TENANTS[:200]:
        assert homes_among(living, {tenant_id: list(living)})(tenant_id) == homes_among(living)(
            tenant_id
        )
