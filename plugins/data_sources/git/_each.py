"""One repository after another, so that a failing one keeps none of the others from loading."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from harvestd.plugin import Unauthorised, allowed, cache_folder, log

from . import _access, _address, _git, _mirror, _reasons

Load = Callable[[_address.Repository, _mirror.Mirror], Awaitable[None]]


async def for_each_repository(env: Mapping[str, str], load: Load) -> dict[str, _git.GitError]:
    """Bring each mirror up to date and ``load`` from it; what failed comes back, by url.

    A mirror that turns out to be damaged is cloned again, once.

    Raises: GitError, if GIT_REPOSITORIES or GIT_TOKEN is refused; whatever else ``load`` raises.
    """
    local_allowed = allowed("local_repositories")
    repositories = _address.parse_repositories(env["GIT_REPOSITORIES"], local_allowed=local_allowed)
    cache = cache_folder()
    # The mirrors of other tenants are local repositories, too.
    _address.refuse_below(cache.parent.parent, repositories)
    home = _access.prepare(cache, repositories)
    failures: dict[str, _git.GitError] = {}
    waiting = deque(repositories)
    while waiting:
        repository = waiting.popleft()
        git = _access.git_for(repository, home=home, token=env.get("GIT_TOKEN"))
        try:
            await _load_one(repository, git, cache, load)
        except _git.GitError as error:
            failures[repository.url] = error
            log.warning("git_repository_failed", url=repository.url, error=str(error))
            # A server that does not answer may take minutes to fail each time: others first.
            waiting = deque(sorted(waiting, key=lambda left: left.server == repository.server))
    return failures


async def _load_one(
    repository: _address.Repository, git: _git.Git, cache: Path, load: Load
) -> None:
    mirror = await _mirror.open_mirror(repository, git, cache)
    try:
        await load(repository, mirror)
    except _mirror.Damaged as error:
        log.warning("git_mirror_damaged", url=repository.url, error=str(error))
        await load(repository, await _mirror.remake(mirror, repository, cache))


def raise_failures(failures: Mapping[str, _git.GitError]) -> None:
    """Raise what failed as one error: Unauthorised, if better credentials would mend it all."""
    if not failures:
        return
    url, first = next(iter(failures.items()))
    reason = str(first) if url in str(first) else f"{url}: {first}"
    if len(failures) > 1:
        reason = f"{len(failures)} repositories failed; the first: {reason}"
    if all(isinstance(error, _reasons.Denied) for error in failures.values()):
        raise Unauthorised(reason)
    raise _git.GitError(reason)
