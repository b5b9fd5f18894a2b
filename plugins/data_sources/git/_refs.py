"""The rows of ``git.ref``: the branches and tags of a mirror."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import IO

from . import _mirror, _parse, _reading

KINDS = {b"refs/heads/": "branch", b"refs/tags/": "tag"}
LIST = ("for-each-ref", "--format=%(objecttype) %(objectname) %(refname)")
NO_TAG: dict[str, object] = dict.fromkeys(("tagger_name", "tagger_email", "tagged_at", "subject"))


async def listed(mirror: _mirror.Mirror) -> tuple[IO[bytes], str]:
    """What ``read`` reads, at its beginning, and its digest: equal if no branch or tag changed.

    Not the mirror's digest, since another script may fetch between that one and this listing.

    Raises: Damaged, if the mirror cannot be read; GitError.
    """
    refs = await mirror.output(*LIST, *(_mirror.REFS + kind.decode("ascii") for kind in KINDS))
    digest = hashlib.sha256()
    for line in refs:
        digest.update(line)
    refs.seek(0)
    return refs, digest.hexdigest()


async def read(mirror: _mirror.Mirror, refs: IO[bytes]) -> AsyncGenerator[dict[str, object], None]:
    """One row for each branch and tag of ``refs``, but for its ``repository_id``.

    Raises: Damaged, if the mirror cannot be read; GitError.
    """
    tags = [line.split()[1].decode("ascii") for line in refs if line.startswith(b"tag ")]
    refs.seek(0)
    with (
        # A tag may be of another tag, and that one of a commit, a tree or a file.
        _reading.stdin_lines(f"{sha}^{{commit}}" for sha in tags) as asked,
        await mirror.output("cat-file", "--batch-check", stdin=asked) as peeled,
    ):
        async with aclosing(_reading.read_objects(mirror, b"tag", tags)) as objects:
            for line in refs:
                kind, sha, name = line.rstrip(b"\n").split(b" ", 2)
                commit: bytes | None = sha if kind == b"commit" else None
                tag = NO_TAG
                if kind == b"tag":
                    found = next(peeled).split()
                    commit = found[0] if found[1] == b"commit" else None
                    raw, _ = await anext(objects)
                    tag = _parse.parse_tag(raw)
                yield _row(name, sha, commit) | tag


def _row(name: bytes, sha: bytes, commit: bytes | None) -> dict[str, object]:
    name = name.removeprefix(_mirror.REFS.encode("ascii"))
    return {
        "name": _parse.name_text(name),
        "kind": next(kind for folder, kind in KINDS.items() if name.startswith(folder)),
        "sha": sha.decode("ascii"),
        "commit_sha": commit and commit.decode("ascii"),
    }
