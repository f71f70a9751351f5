"""A gate tells a worse head from an equal one, says so where it cannot, and leaves the repository as it is."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis import gate as analysis
from analysis.runs import UnusableRun
from crossover import kinds, revisions
from crossover.errors import Fallen
from crossover.options import Options
from crossover.planning import PROFILES
from crossover.session import measure
from tests.synthetic_runs import CRUD, times, write_run

HOME = Path(__file__).parent.parent
IDENTITY = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "core.hooksPath=/dev/null"]


def run(folder: Path, *, head: float = 1.0, again: float | None = 1.0, **changes: Any) -> Path:
    """A gate whose head costs so many times its base, and whose control costs so many times the base it is."""
    sides = [times(CRUD, 1.0, name="base", rung="crud@aaa"), times(CRUD, head, name="head", rung="crud@bbb")]
    sides += [times(CRUD, again, name="base-again", rung="crud@aaa")] if again else []
    plan = {"rounds": 8, "restarts": 4, "slice_noise": 0.03, "probes": 0, "warmups": 0, "operations": 60} | changes
    manifest = {"kind": "gate", "run": folder.name}
    return write_run(folder, targets=tuple(sides), read_shares=(90.0,), manifest=manifest, **plan)


@pytest.mark.parametrize(("head", "answer"), [(1.1, "worse"), (1.0, "same or better"), (0.8, "same or better")])
def test_the_answer_is_the_truth(tmp_path: Path, head: float, answer: str) -> None:
    judged = analysis.judge(run(tmp_path / "run", head=head))
    assert judged.answer == answer, judged
    assert analysis.lines(judged)[0].startswith(f"{answer}: head (crud@bbb) against base (crud@aaa)")


def stolen(row: dict[str, Any]) -> None:
    row["steal_share"] = 0.5 if row["round"] % 2 else 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rounds": 3, "restarts": 1}, "too little data: 3 valid rounds"),
        ({"again": 1.2}, "base differs from itself"),
        ({"again": None}, "nothing shows how much base differs from itself"),
        ({"slice_noise": 0.4}, "more rounds are needed"),
        ({"slice_edits": [stolen]}, "at 90% reads 50% of the rounds are void"),
    ],
)
def test_what_cannot_be_told_is_inconclusive_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    judged = analysis.judge(run(tmp_path / "run", head=1.1, **changes))
    assert judged.answer == "inconclusive" and reason in judged.reason, judged


@pytest.mark.long
def test_a_history_of_unquiet_controls_widens_and_a_missing_control_is_made_up_for(tmp_path: Path) -> None:
    history = tmp_path / "history"
    for number, again in enumerate((1.05, 0.94, 1.06)):
        run(history / str(number), again=again, seed=1, operations=61 + number)
    write_run(history / "another", rounds=3)
    found = run(tmp_path / "run", head=1.1)
    alone, wide = analysis.judge(found), analysis.judge(found, history)
    assert wide.history == 3 and alone.answer == "worse" and wide.answer == "inconclusive"
    assert analysis.judge(run(tmp_path / "no-control", head=1.3, again=None), history).answer == "worse"


def test_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableRun, match="not of `crossover gate`"):
        analysis.judge(write_run(tmp_path / "run", rounds=3))


def git(*words: str) -> str:
    return subprocess.run(["git", *IDENTITY, *words], check=True, capture_output=True, text=True).stdout


def state_of(repository: Path) -> list[str]:
    """Everything that a gate might leave behind."""
    at = ["-C", str(repository)]
    names = sorted(str(path) for path in repository.rglob("*") if "__pycache__" not in path.parts)
    return [git(*at, "worktree", "list"), git(*at, "status", "--porcelain"), *names]


@pytest.mark.skipif(not (HOME / ".git").exists(), reason="the project is no git repository here")
@pytest.mark.long
def test_a_head_that_answers_otherwise_fails_and_nothing_is_left_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    git("clone", "--quiet", str(HOME), str(repository))
    monkeypatch.setattr(revisions, "PROJECT", repository)
    errors = repository / "contract" / "errors.py"
    errors.write_text(otherwise := errors.read_text().replace('"insufficient-stock"', '"too-little-stock"', 1))
    assert "too-little-stock" in otherwise
    git("-C", str(repository), "commit", "--quiet", "--all", "--message", "Another way")
    before = state_of(repository)
    sides = kinds.sides("HEAD~1", "HEAD", None, "crud")
    assert not sides.addresses and len(set(sides.revisions.values())) == 2
    options = Options(size="empty", out=tmp_path / "run")
    session = kinds.gate_of(options, sides, rung="crud", read_shares="90", profile="quick")
    assert (session.plan.rounds, session.plan.probes) == (2 * PROFILES["quick"].rounds, 0)
    with pytest.raises(Fallen, match="do not answer the same"):
        measure(session)
    assert state_of(repository) == before
