"""Revisions of this repository: the commit behind a name, and its code as plain files."""

import io
import subprocess
import tarfile
from pathlib import Path

from crossover.errors import UserError
from crossover.machine import PROJECT


def commit_of(revision: str) -> str:
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode != 0:
        raise UserError(f"There is no revision '{revision}' in {PROJECT}: fetch it, or give an address NAME=URL.")
    return found.stdout.decode().strip()


def check_out(commit: str, folder: Path) -> Path:
    """The code of a commit as plain files: an archive, unlike a worktree, leaves no mark in the repository."""
    archive = git("archive", "--format=tar", commit)
    if archive.returncode != 0:
        raise UserError(f"The code of {commit} cannot be had: {archive.stderr.decode(errors='replace').strip()}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"Revisions need git ({error.strerror}): install it, or give addresses NAME=URL.") from None
