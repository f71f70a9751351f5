"""Revisions of this repository: the commit behind a name, its code as plain files, and the commit that runs."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

from crossover.errors import UserError
from crossover.start import PROJECT

# The user's settings could change what git answers (conversions, hooks); another user's lock could keep it waiting.
GIT_ENV = {"LC_ALL": "C", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}


def current() -> tuple[str | None, bool | None]:
    """The commit that the code is at and whether it was changed since; None where that cannot be told."""
    try:
        return commit_of("HEAD"), bool(_done("status", "--porcelain", "--untracked-files=no").stdout)
    except UserError:
        return None, None


def commit_of(revision: str) -> str:
    if not (PROJECT / ".git").exists():
        raise UserError(f"{PROJECT} is no git repository: clone it, or give addresses NAME=URL.")
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode != 0:
        raise UserError(f"There is no revision '{revision}' in {PROJECT}: fetch it, or give an address NAME=URL.")
    return found.stdout.decode().strip()


def check_out(commit: str, folder: Path) -> Path:
    """The code of a commit as plain files: an archive, unlike a worktree, leaves no mark in the repository."""
    archive = _done("archive", "--format=tar", commit)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _done(*words: str) -> subprocess.CompletedProcess[bytes]:
    if (done := git(*words)).returncode != 0:
        raise UserError(f"git {words[0]} failed in {PROJECT}: {done.stderr.decode(errors='replace').strip()}.")
    return done


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    """git on this repository and no other: neither one around it nor one that the environment names. Git does not ask
    who owns a repository that is given to it by name."""
    named = ["git", f"--git-dir={PROJECT / '.git'}", f"--work-tree={PROJECT}", *words]
    env = GIT_ENV | {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        return subprocess.run(named, cwd=PROJECT, env=env, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"Revisions need git ({error.strerror}): install it, or give addresses NAME=URL.") from None
