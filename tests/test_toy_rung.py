"""A new rung is a new folder: everything picks up a toy rung from a temporary one, and nothing else is touched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.tables import summary
from contract import messages, stores
from contract.errors import Unavailable
from contract.ports import OrderSystem
from ladder.environment import Environment
from ladder.noop.system import MemoryOrders
from ladder.rung import Rung
from ladder.trial import trial
from tests.test_cli import CLEAN

TOY = '''
"""New: a worker beside CRUD that does nothing, to show that a rung is a folder."""

import asyncio
from collections.abc import Mapping

from contract.ports import Worker
from ladder.crud import Crud
from ladder.environment import Environment


class Idler:
    name = "idler"

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01)


class Toy(Crud):
    name, parent = "toy", "crud"
    idea = "A worker that does nothing."
    worker_names = ("idler",)

    def workers(self, env: Environment) -> Mapping[str, Worker]:
        return {"idler": Idler()}


RUNG = Toy()
'''


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which the ladder has one more rung."""
    (tmp_path / "rungs" / "toy").mkdir(parents=True)
    (tmp_path / "rungs" / "toy" / "__init__.py").write_text(TOY)
    return CLEAN | {"CROSSOVER_RUNGS": str(tmp_path / "rungs"), "COLUMNS": "200"}


def run(environ: dict[str, str], *words: str) -> str:
    ended = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=900, env=environ)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.long
def test_the_ladder_shows_it_after_its_parent_and_what_it_changes(environ: dict[str, str]) -> None:
    shown = run(environ, "crossover.cli", "rungs")
    assert shown.index("crud") < shown.index("toy") < shown.index("idler")
    assert "A worker that" in shown
    assert '+        return {"idler": Idler()}' in run(environ, "crossover.cli", "diff", "toy")


@pytest.mark.long
def test_it_is_compared_with_its_parent_and_its_worker_is_in_the_accounts(
    environ: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["--rungs", "crud,toy", "--size", "empty", "--read-shares", "90", "--out", str(out)]
    run(environ, "tests.brisk", "compare", *words)
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["complete"] and "postgres" in manifest["fingerprint"]["servers"]
    costs = {cell["target"]: set(cell["cost"]["by_component_us"]) for cell in summary(out)["cells"]}
    assert costs == {"crud": {"app", "postgres"}, "toy": {"app", "postgres", "idler"}}


@pytest.mark.long
def test_the_suite_of_the_same_bytes_takes_it_in(environ: dict[str, str]) -> None:
    words = ["tests/test_same_bytes.py", "-k", "toy and not lean", "-q", "-p", "no:cacheprovider"]
    assert "-toy" in run(environ, "pytest", *words[:1], "--collect-only", "-q"), "among all rungs"
    assert "1 passed" in run(environ | {"RUNGS": "crud,toy"}, "pytest", *words)


@pytest.mark.long
def test_it_is_tortured(environ: dict[str, str], tmp_path: Path) -> None:
    """Its worker should be killed and paused too: that needs kinds of fault that follow from the rung."""
    faults = "kill-app,kill-postgres,pause-postgres,cut"
    words = ["toy", "--seconds", "5", "--seed", "3", "--faults", faults, "--out", str(tmp_path / "torture")]
    assert "Torture of toy" in run(environ, "crossover.cli", "torture", *words)


def test_a_trial_forgets_what_was_said_of_a_store_that_was_only_starting() -> None:
    class Starting(MemoryOrders):
        started = False

        async def readiness(self) -> messages.Readiness:
            if not self.started:
                self.started = True
                raise Unavailable("It has not been built yet.") from stores.gone("It cannot be asked.", "no shard")
            return await super().readiness()

    class Cold(Rung):
        name = "cold"

        def system(self, env: Environment) -> OrderSystem:
            return Starting(env.clock)

    trial(Cold(), Environment({}))
