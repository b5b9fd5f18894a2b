"""The one hook of the proof: every SQL step of a run goes through ``await step("name")``.

Inert in production.  A test or `harvestd torture` sets ``hook`` and so decides,
at each step, who goes on, who pauses and who dies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

hook: Callable[[str], Awaitable[None]] | None = None


async def step(name: str) -> None:
    """Pass the point called ``name``; where a hook is set, when the hook lets it."""
    if hook is not None:
        await hook(name)
