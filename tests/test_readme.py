"""Every command in the README runs, and every file it names is there."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command

from contract.http.app import make_app
from contract.ports import utc_now
from crossover.cli import app
from crossover.targets import serving, start_servers
from ladder.noop.system import MemoryOrders
from ladder.rung import rungs
from servers.supervisor import Processes
from tests.service import PATIENCE_S, Shop, in_thread, wait_until
from tests.test_cli import CLEAN, here

HOME = Path(__file__).parent.parent
README = (HOME / "README.md").read_text("utf-8")
CI = HOME / "docs" / "ci"


def shown(text: str) -> list[str]:
    """The lines of a text's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]


IN_README = shown(README)


def scripts(node: Any) -> Iterator[str]:
    """Every line that a pipeline's YAML has run."""
    if isinstance(node, str):
        yield from node.splitlines()
    elif isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from scripts(inner)


CODE = [
    *IN_README,
    *shown((CI / "README.md").read_text("utf-8")),
    *(
        line.strip().removeprefix(".venv/bin/").split(" || ")[0]
        for pipeline in sorted(CI.glob("*.yml"))
        for line in scripts(yaml.safe_load(pipeline.read_text("utf-8")))
    ),
]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))


def typed(program: str) -> list[str]:
    """Every line of the README that calls the program, in blocks and within sentences."""
    return sorted({line for line in CODE + INLINE if line.split()[:1] == [program]})


def test_the_code_blocks_are_read() -> None:
    assert len(typed("crossover")) >= 7 and len(typed("make")) >= 2 and len(typed("locust")) == 1
    assert len([line for line in typed("crossover") if line.startswith(("crossover gate", "crossover ci-report"))]) >= 6


@pytest.mark.parametrize("line", typed("make"))
def test_every_make_target_exists(line: str) -> None:
    makefile = (HOME / "Makefile").read_text("utf-8")
    for target in shlex.split(line)[1:]:
        if target.startswith("ARGS="):
            get_command(app).commands["compare"].make_context("compare", shlex.split(target[5:]))  # type: ignore[attr-defined]
        else:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("line", [line for line in typed("crossover") if line != "crossover --help"])
def test_every_command_takes_the_options_and_arguments_shown(line: str) -> None:
    name, *words = shlex.split(line)[1:]
    command = get_command(app).commands.get(name)  # type: ignore[attr-defined]
    assert command is not None, name
    if words or line in CODE:  # a bare name within a sentence is a mention, not a call
        given = command.make_context(name, words).params  # refuses what it does not know
        named = [given["rung"]] if "rung" in given else given.get("rungs", "").split(",")
        assert {rung.partition(":")[0] for rung in named if rung} <= set(rungs())


def test_the_table_of_the_ladder_says_what_the_rungs_say() -> None:
    ladder = README.split("## The ladder")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", ladder, re.MULTILINE)
    said = [tuple(text[0].lower() + text[1:].rstrip(".") for text in (one.idea, one.cost)) for one in rungs().values()]
    assert [row[0] for row in rows] == list(rungs())
    assert [row[1:] for row in rows] == said


@pytest.mark.parametrize("option", [word for word in INLINE if word.startswith("--")])
def test_every_option_named_in_a_sentence_exists(option: str) -> None:
    flag = option.split()[0]
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    assert any(flag in parameter.opts for command in commands for parameter in command.params)


def paths() -> list[str]:
    """The files and folders the README names, the parts of a package relative to it included."""
    return sorted(
        {word for word in INLINE if re.fullmatch(r"[\w./]+(/|\.(py|md|yaml))|LICENSE", word) and word[0] != "/"}
    )


@pytest.mark.parametrize("path", paths())
def test_every_path_exists(path: str) -> None:
    assert any((HOME / folder / path).exists() for folder in (".", "contract", "cqrs_impl")), path


def test_every_link_goes_to_a_file_that_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert link.startswith("https://") or (HOME / link).exists(), link


# The commands are run. A placeholder gets a run that is there, and what takes minutes is made small and marked `long`.

SMALL = "--size empty --read-shares 90 --out {out}"
RUN_AS = {  # a line of the README → how it is run here
    "crossover compare --rungs crud,handlers,cqrs --read-shares 50,90,99 --profile standard": (
        f"crossover compare --rungs crud,handlers,cqrs --profile quick {SMALL}"
    ),
    "crossover compare --clients lean": f"crossover compare --clients lean {SMALL}",
    "crossover compare --rungs crud,orm,orm:naive": f"crossover compare --rungs orm,orm:naive {SMALL}",
    "crossover compare --rungs crud,replica,replica:2": (
        f"crossover compare --rungs crud,replica:2 --profile quick {SMALL}"
    ),
    "crossover compare --rungs cqrs,event_sourced,event_sourced:no-snapshots": (
        f"crossover compare --rungs event_sourced,event_sourced:no-snapshots {SMALL}"
    ),
    "crossover compare --durability relaxed": f"crossover compare --durability relaxed {SMALL}",
    "crossover costs --operations all": "crossover costs --operations place --rungs crud --size empty --out {out}",
    "crossover predict RUN --workload checkout --read-shares 30,80,95": (
        "crossover predict {kept}shop-costs --workload checkout --read-shares 30,80,95"
    ),
    "crossover map --workload shop --sizes s,m": "crossover map --workload shop {kept}map/s {kept}map/m --out {out}",
    "crossover capacity --rung cqrs --p95-ms 50 --freshness-ms 100": (
        # no rate holds this, so that the search goes to low ones
        "crossover capacity --rung crud --p95-ms 0.01 --freshness-ms 100 --size empty --out {out}"
    ),
    "crossover calibrate --quick": "crossover calibrate --quick --out {out}",
    "crossover gallery": "crossover gallery evicting-store",  # each mistake has its own test
    "crossover torture cqrs --seconds 60": "crossover torture cqrs --seconds 5 --out {out}",
    "crossover delta results/monday results/tuesday": "crossover delta {run} {run}",
    "crossover gate --base main --head HEAD": f"crossover gate --base HEAD --head HEAD --profile quick {SMALL}",
    "crossover ci-report results/20260101-120000-ab12 --out report": "crossover ci-report {run} --out {out}",
    "crossover compare --rungs crud --target mine=http://127.0.0.1:9000": (
        f"crossover compare --rungs crud --target mine={{url}} {SMALL}"
    ),
}
LONG = (
    "compare",
    "costs",
    "capacity",
    "calibrate",
    "torture",
    "gate",
    "gallery",
    "publish",
    "report",
    "ci-report",
    "map",
)
CODES = {"gate": (0, 1, 3), "calibrate": (0, 1)}  # what they find depends on the machine; otherwise 0
ELSEWHERE = ("serve", "rebuild", "parked", "replay", "history")  # below: they need each other, or servers that stay
RUN = "results/20260101-120000-ab12"


def by_itself(line: str) -> bool:
    return line.startswith("crossover ") and line.split()[1] not in ELSEWHERE and "--resume" not in line


def marked(line: str) -> Any:
    return pytest.param(line, marks=[pytest.mark.long] if line.split()[1] in LONG else [], id=line)


def run(line: str, *, home: Path = HOME, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it in a folder whose packages are then the ones that are run; what does not measure, in this process."""
    words = shlex.split(line)[1:]
    if words[0] not in LONG:
        return here(*words, **env)
    command = [sys.executable, "-m", "tests.brisk" if home == HOME else "crossover.cli", *words]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=900, env=CLEAN | env)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A kept run, in a folder where it may be changed."""
    return Path(shutil.copytree(HOME / "results" / "published" / "2026-11-23-shop-quick", tmp_path / "a-run"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the project, whose README and results may be changed."""
    ours = ("analysis", "contract", "cqrs_impl", "crossover", "crud_impl", "ladder", "loadtests", "servers")
    for folder in ours:
        shutil.copytree(HOME / folder, tmp_path / "home" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOME / "README.md", tmp_path / "home")
    return tmp_path / "home"


def test_every_line_that_is_run_otherwise_is_in_the_readme() -> None:
    assert RUN_AS.keys() <= set(IN_README)


@pytest.mark.parametrize("line", [marked(line) for line in ["crossover --help", *filter(by_itself, IN_README)]])
def test_a_command_runs(line: str, copied: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kept, home = HOME / "results" / "published" / "2026-11-23-", HOME
    if "publish" in line:
        home = request.getfixturevalue("home")
    with in_thread(make_app(MemoryOrders(utc_now))) as url:
        command = RUN_AS.get(line, line.replace(RUN, "{run}"))
        command = command.format(run=copied, kept=kept, out=tmp_path / "out", url=url)
        ended = run(command, home=home)
    assert ended.returncode in CODES.get(line.split()[1], (0,)), ended.stdout + ended.stderr
    assert ended.returncode or ended.stdout.strip()
    assert "Traceback" not in ended.stderr
    assert (HOME / "README.md").read_text("utf-8") == README, "publish leads the README of the copy"


@pytest.mark.long
def test_a_run_that_was_stopped_is_continued(tmp_path: Path) -> None:
    (line,) = (line for line in IN_README if "--resume" in line)
    out = tmp_path / "out"
    words = ["compare", "--rungs", "crud", "--size", "empty", "--read-shares", "50,90", "--out", str(out)]
    with subprocess.Popen([sys.executable, "-m", "tests.brisk", *words], env=CLEAN) as stopped:
        wait_until(lambda: bool(list(out.glob("rounds/*"))) or stopped.poll() is not None, 300)
        stopped.send_signal(signal.SIGINT)
    assert "incomplete" in run(f"crossover show {out}").stdout
    ended = run(line.replace(RUN, str(out)))
    assert ended.returncode == 0, ended.stderr


def test_a_rung_is_served_and_locust_runs_against_it() -> None:
    (line,) = (line for line in IN_README if line.startswith("crossover serve "))
    (locust,) = typed("locust")
    words = shlex.split(line.replace("--port 8000 --size s", "--port 0 --size empty"))[1:]
    with subprocess.Popen(
        [sys.executable, "-m", "crossover.cli", *words], cwd=HOME, stdout=-1, text=True, env=CLEAN
    ) as served:
        try:
            assert served.stdout is not None
            url = served.stdout.readline().split()[-1]
            assert httpx.get(f"{url}/docs", timeout=60).status_code == 200
            _, told = served.stdout.readline(), served.stdout.readline().split(":", 1)[1]
            assert shlex.split(told)[1:] == shlex.split(locust.replace("http://127.0.0.1:8000", url))[1:]
            words = shlex.split(f"{told} --headless -t 2s")
            assert subprocess.run(words, cwd=HOME, timeout=600).returncode == 0
            served.send_signal(signal.SIGINT)
            assert served.wait(PATIENCE_S) == 128 + signal.SIGINT
        finally:
            served.kill()


def test_views_are_rebuilt_and_parked_events_replayed_on_given_servers() -> None:
    with Processes() as own:
        urls = start_servers(own, ["cqrs"], durability="none")
        env = {"DATABASE_URL": urls["postgres"], "REDIS_URL": urls["redis"]}
        lines = [line for line in IN_README if line.split()[1:2] and line.split()[1] in ("rebuild", "parked", "replay")]
        assert [line.split()[1] for line in lines] == ["rebuild", "parked", "replay"]
        for line in lines:
            ended = run(re.sub("redis=.*", f"redis={urls['redis']}", line), **env)
            assert ended.returncode == 0, ended.stderr
        (line,) = (line for line in IN_README if line.startswith("crossover history"))
        ended = run(line, **env)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == "There is nothing of event_sourced on these servers: serve it there first.\n"
        with serving("event_sourced", urls=urls) as target, httpx.Client(base_url=target.url, timeout=60) as client:
            shop = Shop(client)
            order = shop.order(shop.customer(), shop.product())
        ended = run(re.sub(r"[0-9a-f-]{36}", order, line), **env)
        assert ended.returncode == 0, ended.stderr
        assert f"\n  order:{order} (new)\n" in ended.stdout
