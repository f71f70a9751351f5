"""The locustfile by itself: plain `locust` runs it, alone and distributed, and its options are checked."""

import subprocess
import sys
from pathlib import Path

from tests import load_targets as targets
from tests.load_targets import serving

LOCUSTFILE = Path(__file__).parent.parent / "loadtests" / "locustfile.py"


def locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_runs_against_an_empty_target_without_a_failure() -> None:
    options = ("-u", "4", "-r", "4", "-t", "4s", "--size", "empty", "--workload", "checkout")
    with serving(targets.honest()) as (url,):
        done = locust("-H", url, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = done.stdout + done.stderr
    assert "place" in shown and "0(0.00%)" in shown


def test_workers_draw_their_ids_from_spaces_of_their_own() -> None:
    """Two workers with the same ids would answer each other's orders with 409, a failure to Locust."""
    with serving(targets.honest()) as (url,):
        done = locust(
            "-H", url, "-u", "4", "-r", "4", "-t", "4s", "--size", "empty", "--read-share", "0", "--processes", "2"
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 ready workers" in done.stdout + done.stderr


def test_an_unknown_workload_is_one_clear_sentence() -> None:
    done = locust("-H", "http://127.0.0.1:9", "--workload", "nope")
    assert done.returncode == 2
    assert "There is no workload 'nope': choose one of backoffice, checkout, shop" in done.stderr
