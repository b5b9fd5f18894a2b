"""A repository of a person, to be collected."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(*arguments: str, cwd: Path, given: str = "") -> str:
    """What git says, for a person called Ada."""
    name = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "safe.directory=*")
    done = subprocess.run(
        ["git", *name, *arguments],
        cwd=cwd,
        input=given,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def a_repository(folder: Path) -> Path:
    folder.mkdir()
    git("init", "--quiet", cwd=folder)
    git("commit", "--quiet", "--allow-empty", "--message", "first", cwd=folder)
    return folder
