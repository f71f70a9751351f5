"""A change against what it changes, for CI: base and head in one interleaved run, and base twice, as its control."""

import io
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from crossover.compare import drive, plan_of, started, usable, wide_console
from crossover.errors import UserError
from crossover.machine import PROJECT
from crossover.preflight import Wish
from crossover.progress import Steps
from crossover.targets import known_rung
from ladder.rung import rung as rung_of
from servers.supervisor import Processes

EXIT_CODES = {"same or better": 0, "worse": 1, "inconclusive": 3}
WARM_UP_S = 3.0  # after each of the many starts
URL_MARK = "://"


def gate(wish: Wish, revisions: dict[str, str], history: Path | None) -> int:
    """Runs the wish, each target of ours at its revision, and returns the exit code of the verdict."""
    from analysis import gate as analysis

    with ExitStack() as stack, Steps("gate") as steps:
        supervisor = stack.enter_context(Processes())
        codes = {commit: check_out(commit, supervisor.folder / "code" / commit) for commit in revisions.values()}
        targets = [
            stack.enter_context(started(wish, name, rung, steps, code=codes[revisions[name]]))
            for name, rung in wish.rungs.items()
        ]
        drive(planned(plan_of(wish, targets), revisions), supervisor, targets, steps)
    with usable():
        wide_console().print(analysis.render(wish.out, history))
        print(f"Data:  {wish.out / 'manifest.json'}")
        return EXIT_CODES[analysis.judge(wish.out, history).answer]


def planned(plan: dict[str, Any], revisions: dict[str, str]) -> dict[str, Any]:
    """The plan of a gate; the rung of another commit is another rung."""
    for target in plan["targets"]:
        if target["name"] in revisions:
            target["rung"] += f"@{revisions[target['name']][:12]}"
    # Rounds are cheap beside starts, and two revisions differ by less than two rungs.
    return plan | {"rounds": 2 * plan["rounds"], "probes": 0, "warm_up_s": WARM_UP_S}


def sides(base: str, head: str, again: str | None, rung: str) -> tuple[dict[str, str], list[str]]:
    """Revisions by target name, or addresses NAME=URL in the order base, head, base again."""
    if not rung_of(known_rung(rung)).servers:
        raise UserError(f"{rung} forgets everything when it is started anew, as a gate does: choose another rung.")
    words = [base, head, *([again] if again else [])]
    if all(URL_MARK in word for word in words):
        return {}, words
    if any(URL_MARK in word for word in words) or again:
        raise UserError("Give --base and --head two revisions, or two addresses NAME=URL, which alone take --again.")
    commits = [commit_of(word) for word in (base, head)]
    return {"base": commits[0], "head": commits[1], "base-again": commits[0]}, []


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
