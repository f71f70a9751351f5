"""The pages in docs/ are true: their commands run, their example is a target, their files are the ones shown."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from analysis import tables
from crossover.targets import Target
from servers.ports import free_ports
from tests.service import Shop, wait_until

HOME = Path(__file__).parent.parent
DOCS = HOME / "docs"


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@contextmanager
def served(command: str) -> Iterator[tuple[str, int]]:
    """The example, started as its page says but at a free port: (its URL, its pid)."""
    (port,) = free_ports(1)
    words = [sys.executable, *shlex.split(command.replace("9000", str(port)))[1:]]
    with subprocess.Popen(words, cwd=HOME, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            yield service.stdout.readline().split()[-1], service.pid
        finally:
            service.kill()


def compared(command: str, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tests.brisk", *shlex.split(command)[1:], "--out", str(out)]
    return subprocess.run(words, cwd=HOME, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.long
def test_the_example_of_a_system_of_ones_own_is_compared_as_its_page_says(tmp_path: Path) -> None:
    start, plain, _with_pids = commands("own-system.md")
    with served(start) as (url, pid):
        ended = compared(plain.replace("http://127.0.0.1:9000", url) + f" --pids mine={pid}", tmp_path / "run")
        assert ended.returncode == 0, ended.stderr
        cell = next(cell for cell in tables.summary(tmp_path / "run")["cells"] if cell["target"] == "mine")
        assert cell["cost"]["total_us"] > 0


def test_the_workload_shown_is_the_file_beside_it() -> None:
    shown = re.search(r"```toml\n(.*?)```", (DOCS / "own-workload.md").read_text("utf-8"), re.DOTALL)
    assert shown and tomllib.loads(shown[1]) == tomllib.loads((DOCS / "support.toml").read_text("utf-8"))


@pytest.mark.long
@pytest.mark.parametrize("command", commands("own-workload.md"))
def test_a_workload_of_ones_own_is_compared_as_its_page_says(command: str, tmp_path: Path) -> None:
    ended = compared(command, tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert "cqrs" in ended.stdout and "At 90% reads" in ended.stdout
    wait_until(lambda: (tmp_path / "run" / "report.html").exists())


def test_the_requests_of_the_page_on_time_travel_are_answered(serve: Callable[..., Target]) -> None:
    with httpx.Client(base_url=serve("event_sourced").url, timeout=30) as client:
        shop = Shop(client)
        product = shop.product()
        order = shop.order(shop.customer(), product)
        asked = [line.split("8000")[1].rstrip('"') for line in commands("time-travel.md") if line.startswith("curl")]
        assert len(asked) == 3
        for path in asked:
            path = path.replace("$ORDER", order).replace("$PRODUCT", product)
            was = path.replace("2026", "9999")  # a time to come is now
            assert client.get(was).status_code == 200, was
            if was != path:
                assert client.get(path).json()["detail"] == "There was no such resource then."
