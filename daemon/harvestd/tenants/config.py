"""A tenant's configuration: rows → the ``env`` of each data source.

Read when the tenant's turn comes, and nothing is kept after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harvestd.errors import MissingKey

ENV_BYTES_MAX = 256 * 1024
"""Of one tenant's data source.  Every text of a run is searched for its values, in twenty
spellings: with 20 MB that held the event loop, and with it all tenants, for half a minute."""


class Env(Mapping[str, str]):
    """What a script receives: the keys of one tenant's data source, read-only.

    Neither its repr nor its errors show a value.
    """

    __slots__ = ("_source", "_tenant_id", "_values")

    def __init__(self, values: Mapping[str, str], *, tenant_id: str, source: str) -> None:
        self._values = dict(values)
        self._tenant_id = tenant_id
        self._source = source

    def __getitem__(self, key: str) -> str:
        """Raises: MissingKey, which names the keys there are and where to set it."""
        try:
            return self._values[key]
        except KeyError:
            raise MissingKey(
                key, present=sorted(self._values), tenant_id=self._tenant_id, source=self._source
            ) from None

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Env({', '.join(sorted(self._values))})"

    def secret_values(self, plain_keys: frozenset[str]) -> tuple[str, ...]:
        """The values to redact: all but those of ``plain_keys``."""
        return tuple(value for key, value in self._values.items() if key not in plain_keys)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant as its turn finds it: limits, and an env by data source."""

    tenant_id: str
    runs_max: int | None = None
    envs: Mapping[str, Env] = field(default_factory=dict, repr=False)
    too_large: frozenset[str] = frozenset()
    """Data sources whose configuration is over ENV_BYTES_MAX, and was not read."""


def envs_of(tenant_id: str, rows: Iterable[tuple[str, str, str]]) -> dict[str, Env]:
    """Group a tenant's rows (source, key, value) into one env a data source."""
    grouped: dict[str, dict[str, str]] = {}
    for source, key, value in rows:
        grouped.setdefault(source, {})[key] = value
    return {
        source: Env(values, tenant_id=tenant_id, source=source)
        for source, values in grouped.items()
    }
