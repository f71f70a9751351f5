"""The locustfile by itself: plain `locust` runs it, alone and distributed, and its options are checked."""

import subprocess
import sys
from pathlib import Path

from crossover.targets import listen
from tests import load_targets as targets
from tests.load_targets import serving

LOCUSTFILE = Path(__file__).parent.parent / "loadtests" / "locustfile.py"


def free_port() -> int:
    with listen("127.0.0.1", 0) as free:
        return int(free.getsockname()[1])


def locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    headless = () if "--autostart" in arguments else ("--headless",)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *headless, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_by_its_defaults_it_runs_against_an_empty_target_and_without_the_data_it_says_so_at_once() -> None:
    options = ("-u", "4", "-r", "4", "-t", "4s", "--workload", "checkout")
    with serving(targets.honest()) as (url,):
        web = ("--autostart", "--autoquit", "0", "--web-port", str(free_port()))
        first, again = locust("-H", url, *options), locust("-H", url, *options, *web)
        for done in (first, again):  # what the first renamed is no obstacle
            assert done.returncode == 0, done.stderr[-2000:]
            assert "place" in done.stdout + done.stderr and "0(0.00%)" in done.stdout + done.stderr
        without = locust("-H", url, *options, "--size", "s", "--seed", "7")
    assert "Starting web interface at http://127.0.0.1:" in again.stderr, "for this machine alone"
    assert without.returncode == 2 and "(100.00%)" not in without.stdout + without.stderr
    assert (
        f"{url} does not hold the data set of size s and seed 7: load it with `crossover serve RUNG --size s "
        "--seed 7`, or give Locust the --size it holds."
    ) in without.stderr


def test_workers_draw_their_ids_from_spaces_of_their_own() -> None:
    """Two workers with the same ids would answer each other's orders with 409, a failure to Locust."""
    with serving(targets.honest()) as (url,):
        done = locust("-H", url, "-u", "4", "-r", "4", "-t", "4s", "--read-share", "0", "--processes", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 ready workers" in done.stdout + done.stderr


def test_an_unknown_workload_is_one_clear_sentence() -> None:
    done = locust("-H", "http://127.0.0.1:9", "--workload", "nope")
    assert done.returncode == 2
    assert "There is no workload 'nope': choose one of backoffice, checkout, reports, shop" in done.stderr
