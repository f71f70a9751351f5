"""The locustfile by itself: plain `locust` runs it, alone and distributed, and its options are checked."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from servers.ports import free_ports
from tests import load_targets as targets
from tests.framing import sending
from tests.load_targets import serving
from tests.service import wait_until

LOCUSTFILE = Path(__file__).parent.parent / "loadtests" / "locustfile.py"


def locust(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    headless = () if "--autostart" in arguments else ("--headless",)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *headless, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | env)


def test_by_its_defaults_it_runs_against_an_empty_target_and_without_the_data_it_says_so_at_once() -> None:
    options = ("-u", "4", "-r", "4", "-t", "4s", "--workload", "checkout")
    with serving(targets.honest()) as (url,):
        web = ("--autostart", "--autoquit", "0", "--web-port", str(*free_ports(1)))
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


@pytest.mark.long
def test_workers_draw_their_ids_from_spaces_of_their_own() -> None:
    """Two workers with the same ids would answer each other's orders with 409, a failure to Locust."""
    with serving(targets.honest()) as (url,):
        done = locust("-H", url, "-u", "4", "-r", "4", "-t", "4s", "--read-share", "0", "--processes", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 ready workers" in done.stdout + done.stderr


def test_an_unknown_workload_is_one_clear_sentence() -> None:
    done = locust("-H", "http://127.0.0.1:9", "--workload", "nope")
    assert done.returncode == 2
    assert "There is no workload 'nope': choose one of backoffice, checkout, reports, shop, shop-uniform" in done.stderr


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("http://me:canary@127.0.0.1:9", "", "holds a password"),
        ("http://127.0.0.1:9/?canary", "", "and nothing else"),
        ("http://127.0.0.1:9", "canary\nX: y", "is printable ASCII"),
    ],
)
def test_a_bad_address_or_token_is_refused_without_being_repeated(url: str, token: str, says: str) -> None:
    done = locust("-H", url, CROSSOVER_TOKEN=token)
    assert done.returncode == 2 and says in done.stderr and "canary" not in done.stdout + done.stderr


def test_its_page_shows_no_token_and_sends_it_to_no_other_address() -> None:
    page, within = f"http://127.0.0.1:{free_ports(1)[0]}", {"CROSSOVER_TOKEN": "canary"}
    words = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "-H", "http://127.0.0.1:9", "--web-port", page[17:]]
    with sending([[b""]] * 9) as (other, asked):
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | within) as process:
            assert process.stderr is not None
            try:
                next(line for line in process.stderr if "Starting web interface" in line)
                wait_until(lambda: is_served(page))
                assert "canary" not in httpx.get(page, timeout=60).text
                users = {"user_count": 1, "spawn_rate": 1, "host": other}
                httpx.post(f"{page}/swarm", data=users, timeout=60)
                assert any("started with: start it again with -H" in line for line in process.stderr)
            finally:
                process.kill()
        assert not asked


def is_served(page: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(page).status_code == 200
    return False
