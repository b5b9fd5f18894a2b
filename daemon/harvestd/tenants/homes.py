"""Where a tenant is at home: the one replica that takes its turns.

Rendezvous hashing (Thaler and Ravishankar, 1998): each replica has a weight for each tenant, and
the heaviest is the tenant's home.  So every replica that knows of the same living ones finds the
same home without a word between them, and when one comes or goes only its own tenants move.

Tenants fall into PARTS by their id, and those have the weights: a replica's are computed once for
all tenants, and a tenant then costs a checksum instead of a hash for each replica.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from hashlib import shake_128
from struct import unpack
from uuid import UUID
from zlib import crc32

PARTS = 4_096
"""So many that chance gives none of five replicas a tenth more than its share: the deviation is
the root of (replicas - 1) / PARTS."""
NOBODY: Mapping[str, Collection[UUID]] = {}


def homes_among(
    living: frozenset[UUID], unable: Mapping[str, Collection[UUID]] = NOBODY
) -> Callable[[str], UUID | None]:
    """From a tenant's id to its home; None where nobody lives.

    ``unable`` names, for some tenants, the replicas that lack one of their scripts: their home is
    the heaviest of the others.  Where all are unable, of all; and what it lacks is blocked there.
    """
    if len(living) <= 1:
        only = next(iter(living), None)
        return lambda tenant_id: only
    homes = _homes(living)

    def home(tenant_id: str) -> UUID:
        if lacking := unable.get(tenant_id):
            able = living.difference(lacking) or living
            return _homes(able)[_part(tenant_id)]
        return homes[_part(tenant_id)]

    return home


def _part(tenant_id: str) -> int:
    return crc32(tenant_id.encode()) % PARTS


@lru_cache(maxsize=16)
def _homes(living: frozenset[UUID]) -> tuple[UUID, ...]:
    """The home of each part."""
    replicas = sorted(living)
    weights = (_weights(replica_id) for replica_id in replicas)
    return tuple(replicas[of_all.index(max(of_all))] for of_all in zip(*weights, strict=True))


def _weights(replica_id: UUID) -> tuple[int, ...]:
    """The replica's weight for each part, the same in every process and on every machine."""
    drawn = shake_128(replica_id.bytes).digest(8 * PARTS)
    return unpack(f">{PARTS}Q", drawn)
