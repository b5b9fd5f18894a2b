"""What a repository is besides its address: its first and its last commit.

First: the oldest of the commits without parents.  Last: the newest of the tips.  Both by the
committer's date.  Finding the first takes a walk over all commits, so the answer is kept as
a bookmark together with the state of the refs that it was found under.
"""

from __future__ import annotations

from . import _address, _mirror, _parse


def are_of(facts: object, mirror: _mirror.Mirror) -> bool:
    """Whether ``facts`` were found in this mirror as it is."""
    match facts:
        case {"refs": mirror.refs, "shallow": mirror.shallow, "first": first, "last": last}:
            return all(_is_dated(each) for each in (first, last))
    return False


async def find(mirror: _mirror.Mirror) -> dict[str, object]:
    """Small JSON: first and last commit as ``[sha, seconds since 1970]``, or None.

    Raises: Damaged, if the mirror cannot be read; GitError.
    """
    roots = await _dated(mirror, "--max-parents=0")
    tips = await _dated(mirror, "--no-walk=unsorted")
    first = min(roots, key=lambda each: (each[1], each[0]), default=None)
    last = max(tips, key=lambda each: (each[1], each[0]), default=None)
    return {
        "refs": mirror.refs,
        "shallow": mirror.shallow,
        "first": list(first) if first else None,
        "last": list(last) if last else None,
    }


def row(
    repository: _address.Repository, mirror: _mirror.Mirror, facts: dict[str, object]
) -> dict[str, object]:
    """The row of ``git.repository``."""
    values: dict[str, object] = {
        "id": repository.id,
        "url": repository.url,
        "default_branch": mirror.default_branch,
        "head": mirror.head,
    }
    for which in ("first", "last"):
        dated = facts[which]
        sha, seconds = dated if isinstance(dated, list) else (None, None)
        values[f"{which}_commit"] = sha
        values[f"{which}_commit_at"] = None if seconds is None else _parse.moment(seconds)
    return values


def _is_dated(value: object) -> bool:
    match value:
        case None | [str(), int()]:
            return True
    return False


async def _dated(mirror: _mirror.Mirror, which: str) -> list[tuple[str, int]]:
    with await mirror.output("rev-list", "--all", "--timestamp", which) as answer:
        found = []
        for line in answer:
            seconds, sha = line.split()
            found.append((sha.decode("ascii"), int(seconds)))
    return found
