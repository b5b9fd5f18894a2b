"""Which commits are already loaded, told by a few of them: pure arithmetic.

The bookmark of a repository (``Loaded``) holds *heads*: commits that are loaded together with
everything reachable from them.  That holds before a walk, after each of its chunks and at its
end, so a process that dies anywhere loses nothing: the next walk asks git for what is reachable
from any ref and not from the heads.

Why it holds after a chunk: a walk lists parents before children, so every parent of a listed
commit is below the old heads or was listed before.  By induction, everything reachable from a
listed commit is loaded when the commit is.  A commit that became somebody's loaded parent is
covered by that child and leaves the heads, which keeps them few.

Leaving a head out is always safe: the next walk lists more, and loads what it finds unchanged.
Hence the bound, and hence a head that vanished from the mirror is simply dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

HEADS_MAX = 50_000
"""In a bookmark: about 2 MB.  Beyond it the oldest are left out and walked again each time."""

_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What of one repository is stored."""

    heads: tuple[str, ...] = ()
    """All that is reachable from these."""
    tips: str = ""
    """And from the tips of this digest; empty in the middle of a walk."""
    shallow: str = ""
    """Where the history ended that was walked, as a digest; empty for a whole one."""

    @classmethod
    def from_bookmark(cls, bookmark: object, *, shallow: str) -> Loaded:
        """What a bookmark vouches for; nothing if it is of another shape.

        Nothing either when the history ends elsewhere now: what came to light lies below the
        heads, and a walk that stops at them would not find it.
        """
        match bookmark:
            case {"heads": list(heads), "tips": str(tips), "shallow": str(known)}:
                names = [sha for sha in heads if isinstance(sha, str) and _NAME.fullmatch(sha)]
                if known == shallow and len(names) == len(heads):
                    return cls(tuple(names), tips, shallow)
        return cls(shallow=shallow)

    def as_bookmark(self) -> dict[str, object]:
        """As JSON."""
        return {"heads": list(self.heads), "tips": self.tips, "shallow": self.shallow}


class Frontier:
    """The heads of what is loaded, moved by each commit."""

    def __init__(self, heads: Iterable[str] = ()) -> None:
        self._heads = dict.fromkeys(heads)

    def add(self, sha: str, parents: Iterable[str]) -> None:
        """A commit was loaded, after all of its parents."""
        for parent in parents:
            self._heads.pop(parent, None)
        self._heads.pop(sha, None)
        self._heads[sha] = None

    def heads(self, at_most: int = HEADS_MAX) -> tuple[str, ...]:
        """The newest ``at_most`` heads, oldest first."""
        return tuple(self._heads)[-at_most:]


def digest_of(tips: Iterable[str]) -> str:
    """A name for the commits that the refs of a repository lead to; empty if there is none."""
    names = " ".join(sorted(tips))
    return hashlib.sha256(names.encode("ascii")).hexdigest() if names else ""
