"""A run that was stopped goes on where it was; a folder that cannot go on is left as it is, with one sentence."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis import sentences
from analysis.findings import find
from analysis.runs import UnusableRun, open_run, read_unfinished
from crossover.errors import refusals
from crossover.kinds import resumed
from loadtests.format import OF_EVERY_RUN
from tests import load_targets as targets
from tests.framing import sending
from tests.jobs import drive, job_for, manifest_of, one_sentence, rounds_of, start
from tests.load_targets import serving
from tests.service import wait_until

KILLS = int(os.environ.get("KILLS", "1"))  # KILLS=20 is the long form
SEED = int(os.environ.get("KILLS_SEED", "1"))
SHARES, ROUNDS = (50.0, 90.0), 3
MOMENTS = ("", "contract", "fill", "conformance", "baseline", "warm-up", "load", "load", "load", "staleness", "ledger")


def digests(folder: Path) -> dict[str, str]:
    """Whole rounds on disk: name → SHA-256 over their files."""
    return {
        one.name: hashlib.sha256(b"".join(f.read_bytes() for f in sorted(one.iterdir()))).hexdigest()
        for one in rounds_of(folder)
    }


def killed(folder: Path, rng: random.Random, **changes: Any) -> None:
    """The driver on fresh targets, killed at a moment that its phases choose, not the speed of the machine."""
    phase, times, later_s = rng.choice(MOMENTS), rng.randint(1, 4), rng.uniform(0, 0.3)
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(job_for(folder, urls, **changes))
        assert process.stdout is not None
        while phase and times and (line := process.stdout.readline()):
            times -= json.loads(line)["phase"] == phase
        try:
            process.communicate(timeout=later_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def resume(folder: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    with serving(targets.honest(), targets.honest()) as urls:
        return drive(job_for(folder, urls, resume=True, **changes))


@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_killed_at_any_moment_goes_on_or_is_seen_to_be_incomplete(tmp_path: Path, number: int) -> None:
    rng = random.Random(f"{SEED}/{number}")
    killed(tmp_path, rng)
    if not (tmp_path / "run" / "manifest.json").exists():
        with pytest.raises(UnusableRun, match=r"is no run|is not a folder"):
            open_run(tmp_path / "run")
        return
    for _ in range(3):  # a resumed run may be killed as well
        if manifest_of(tmp_path)["complete"]:
            break
        with pytest.raises(UnusableRun, match="incomplete"):
            open_run(tmp_path / "run")
        kept = digests(tmp_path)
        assert "incomplete" in sentences.unfinished(tmp_path / "run", *read_unfinished(tmp_path / "run"))[0]
        if rng.random() < 0.4:
            killed(tmp_path, rng, resume=True)
        else:
            done = resume(tmp_path)
            assert done.returncode == 0, done.stderr
        assert kept.items() <= digests(tmp_path).items(), "what was measured stays as it was"
    whole(tmp_path)


def whole(folder: Path) -> None:
    """The run is complete, with exactly the rounds that it was to have."""
    if not manifest_of(folder)["complete"]:
        assert resume(folder).returncode == 0
    run = open_run(folder / "run")
    measured = run.slices.filter(phase="measure").group_by("read_share_pct").agg(pl.col("round").n_unique())
    assert dict(measured.iter_rows()) == dict.fromkeys(SHARES, ROUNDS)
    assert run.slices["slice"].is_unique().all()
    assert not list((folder / "run" / "rounds").glob(".*"))
    assert run.slices.sort("round")["restart"].is_sorted()


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed after its third round on disk."""
    folder = tmp_path_factory.mktemp("half")
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(job_for(folder, urls))
        wait_until(lambda: len(rounds_of(folder)) >= 3, 300)
        process.kill()
        process.communicate()
    are_whole(folder)
    return folder


def are_whole(folder: Path) -> None:
    """Each round on disk has every table."""
    for one in rounds_of(folder):
        assert {file.name for file in one.iterdir()} == {f"{name}.parquet" for name in OF_EVERY_RUN}
        assert all(pl.read_parquet(file) is not None for file in one.iterdir())


@pytest.fixture
def stopped(half: Path, tmp_path: Path) -> Path:
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.long
def test_a_resumed_session_is_a_restart_of_its_own_and_an_unverified_ledger_is_reported(stopped: Path) -> None:
    before = len(digests(stopped))
    (stopped / "run" / "rounds" / ".tmp-00099").mkdir()
    done = resume(stopped)
    assert done.returncode == 0, done.stderr
    whole(stopped)
    slices, manifest = open_run(stopped / "run").slices, manifest_of(stopped)
    assert slices.filter(pl.col("round") <= before)["restart"].unique().to_list() == [0]
    assert slices.filter(pl.col("round") > before)["restart"].unique().to_list() == [1]
    assert manifest["sessions"] == 2 and manifest["checks"]["ledger"]["rounds"] == len(digests(stopped)) - before
    assert f"The writes of {before} of" in sentences.checks_line(find(stopped / "run"))


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_verifies_its_ledger_and_is_resumed_where_its_data_is_still_there(
    tmp_path: Path, how: signal.Signals
) -> None:
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(job_for(tmp_path, urls, rounds=12, read_shares=(50,)))
        wait_until(lambda: len(rounds_of(tmp_path)) >= 5, 300)
        process.send_signal(how)
        _, errors = process.communicate(timeout=600)
        assert "incomplete" in one_sentence(subprocess.CompletedProcess((), process.returncode, "", errors), 130)
        are_whole(tmp_path)
        manifest, ledger = manifest_of(tmp_path), manifest_of(tmp_path)["checks"]["ledger"]
        assert not manifest["complete"] and manifest["finished_at"] is not None
        assert {Path(name).parts[1] for name in manifest["files"]} == {one.name for one in rounds_of(tmp_path)}
        assert ledger["ok"] and ledger["rounds"] == len(rounds_of(tmp_path))
        done = drive(job_for(tmp_path, urls, rounds=12, read_shares=(50,), resume=True))
    assert done.returncode == 0, done.stderr
    total = manifest_of(tmp_path)["checks"]["ledger"]
    assert total["rounds"] == len(rounds_of(tmp_path)) and total["acknowledged"] > ledger["acknowledged"]
    assert "not verified" not in sentences.checks_line(find(tmp_path / "run"))


@pytest.mark.long
def test_a_session_whose_ledger_is_wrong_gives_no_figures_for_the_whole_run(stopped: Path) -> None:
    with serving(targets.forgetting(every=100), targets.forgetting(every=100)) as urls:
        done = drive(job_for(stopped, urls, resume=True))
    assert done.returncode == 1 and ("lost" in done.stderr or "same" in done.stderr)
    with pytest.raises(UnusableRun, match="gives no figures"):
        open_run(stopped / "run")


def test_other_settings_are_refused_by_name_and_nothing_changes(stopped: Path) -> None:
    before = (stopped / "run" / "manifest.json").read_bytes(), digests(stopped)
    done = resume(stopped, seed=2, slice_s=0.3)
    assert done.returncode == 2 and "because these differ now: seed, slice_s." in done.stderr
    assert before == ((stopped / "run" / "manifest.json").read_bytes(), digests(stopped))


def test_a_run_that_still_goes_on_is_left_alone(tmp_path: Path) -> None:
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(job_for(tmp_path, urls, rounds=1000))
        wait_until(lambda: len(rounds_of(tmp_path)) >= 1, 300)
        other = drive(job_for(tmp_path, urls, rounds=1000, resume=True))
        process.kill()
        process.communicate()
    assert other.returncode == 2 and "still goes on" in other.stderr


def test_a_token_goes_to_no_address_that_only_the_folder_names(stopped: Path) -> None:
    with sending([[b""]] * 9) as (url, asked):
        plan = manifest_of(stopped)["plan"] | {"external": {"mine": url}}
        noted(stopped / "run", plan=plan)
        for targets_, says in ([], "add --target mine=URL"), (["mine=http://127.0.0.1:9"], "leave out --target mine"):
            with pytest.raises(refusals(), match=says):
                resumed(stopped / "run", token="canary", targets=targets_)
        assert not asked
        with pytest.raises(refusals(), match="does not answer"):
            resumed(stopped / "run", token="canary", targets=[f"mine={url}"])
        assert b"Bearer canary" in asked[0]


SLICES = "rounds/00001/slices.parquet"


def noted(folder: Path, **changes: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(file: Path, *, named: Path | None = None) -> None:
    """A file without its end; `named`: in the manifest of this run, by its whole content."""
    if named:
        files = {SLICES: hashlib.sha256(file.read_bytes()).hexdigest()}
        noted(named, files=json.loads((named / "manifest.json").read_text())["files"] | files)
    file.write_bytes(file.read_bytes()[:-9])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is a complete run: there is nothing to resume": lambda run: noted(run, complete=True),
    "was started by an earlier version, so it cannot be resumed": lambda run: noted(run, plan=None),
    "newer than format 1": lambda run: noted(run, format=2),
    "is no run": lambda run: ((run / "manifest.json").unlink(), shutil.rmtree(run / "rounds")),
    f"{SLICES} does not match its checksum": lambda run: cut(run / SLICES, named=run),
    f"{SLICES} does not fit": lambda run: cut(run / SLICES),
    "manifest.json is no valid JSON": lambda run: cut(run / "manifest.json"),
}


@pytest.mark.parametrize("says", DAMAGES)
def test_what_cannot_be_resumed_is_refused_with_one_sentence(stopped: Path, says: str) -> None:
    DAMAGES[says](stopped / "run")
    with pytest.raises(refusals(), match=says) as refusal:
        resumed(stopped / "run")
    assert "\n" not in str(refusal.value)
