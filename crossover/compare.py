"""A comparison from start to report: targets up and filled, the driver's run watched, its figures shown."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from crossover.errors import Fallen, UserError
from crossover.machine import fingerprint
from crossover.preflight import PROFILES, SLICE_S, TRIAL_S, Wish
from crossover.progress import Steps
from crossover.targets import Target, midnight, restarted, serving
from ladder.rung import rung as rung_of
from loadtests.dataset import SIZES
from servers.server import fresh_namespace
from servers.supervisor import Processes

STOPPED, BAD_INPUT = 130, 2
DRIVERS = {"capacity": "loadtests.capacity"}  # of other kinds: loadtests.drive
DRIVER_ENDS_S_MAX = 30.0


def compare(wish: Wish) -> None:
    """Raises UserError for bad input, Fallen for a failed check; what was measured stays on disk."""
    try:
        measure(wish)
    except KeyboardInterrupt:
        if (wish.out / "manifest.json").exists() and wish.kind == "compare":
            print(f"Stopped. To go on: crossover compare --resume {wish.out}", file=sys.stderr)
        raise
    write(wish.out)
    show(wish.out)


def measure(wish: Wish) -> None:
    with contextlib.ExitStack() as stack, Steps("compare") as steps:
        supervisor = stack.enter_context(Processes())
        targets = [stack.enter_context(started(wish, name, rung, steps)) for name, rung in wish.rungs.items()]
        drive(plan_of(wish, targets), supervisor, targets, steps)


def started(
    wish: Wish, name: str, rung: str, steps: Steps, *, code: Path | None = None
) -> AbstractContextManager[Target]:
    """A target in a namespace of this run alone, which is dropped from servers of the user's own afterwards."""
    return serving(
        rung,
        name=name,
        size="empty" if filled_over_http(wish) else wish.size,
        seed=wish.seed,
        token=wish.token,
        urls=wish.urls,
        durability=wish.durability,
        namespace=fresh_namespace(name),
        ephemeral=True,
        code=code,
        until=midnight(),
        progress=steps,
    )


def filled_over_http(wish: Wish) -> bool:
    """Where one target can only be filled through its front door, all are: their recorded times then have one cause."""
    return bool(wish.external) or any(not rung_of(rung).servers for rung in wish.rungs.values())


def plan_of(wish: Wish, targets: list[Target]) -> dict[str, Any]:
    """The driver's only input; its fields are described in `loadtests.plan`."""
    profile = PROFILES[wish.profile]
    return {
        "out": str(wish.out),
        "run": wish.run,
        "targets": [described(target) for target in targets]
        + [
            {"name": name, "url": url, "token": wish.token, "processes": wish.pids.get(name, {})}
            for name, url in wish.external.items()
        ],
        "workload": wish.workload,
        "read_shares": wish.read_shares,
        "rate_per_s": wish.rate_per_s,
        "rounds": profile.rounds,
        "slice_s": TRIAL_S if wish.kind == "capacity" else SLICE_S,
        "restarts": profile.restarts if targets and not wish.external else 1,
        "seed": wish.seed,
        "resume": wish.resume,
        "size": {"name": wish.size, **SIZES[wish.size]._asdict()},
        "fill_over_http": filled_over_http(wish),
        "profile": wish.profile,
        "fingerprint": fingerprint(targets),
        "kind": wish.kind,
        "goal": wish.goal,
        "operations": wish.operations,
        "probes": 0 if wish.kind == "costs" else None,
    }


def described(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "url": target.url,
        "rung": target.rung,
        "parent": rung_of(target.rung).parent,
        "token": target.env.get("CROSSOVER_TOKEN"),
        "processes": target.processes,
    }


def drive(plan: dict[str, Any], supervisor: Processes, targets: list[Target], steps: Steps) -> None:
    """Run the driver to its end, showing its progress and giving it fresh processes when it asks for them."""
    log, path = supervisor.log("driver"), supervisor.folder / "PLAN.json"  # no part of the run: it may carry a token
    path.touch(0o600)
    path.write_text(json.dumps(plan))
    module = DRIVERS.get(plan["kind"], "loadtests.drive")
    driver = supervisor.start_piped("driver", [sys.executable, "-m", module, str(path)], env=os.environ)
    try:
        follow(driver, targets, steps)
    except BaseException:
        end(driver)
        raise
    last = supervisor.last_lines("driver")
    sentence = last.splitlines()[-1] if last else f"The driver ended with status {driver.returncode}."
    if driver.returncode == STOPPED:
        raise KeyboardInterrupt
    if driver.returncode == BAD_INPUT:
        raise UserError(sentence)
    if driver.returncode != 0:
        raise Fallen(last if "Traceback" in log.read_text(errors="replace") else sentence)


def follow(driver: subprocess.Popen[bytes], targets: list[Target], steps: Steps) -> None:
    assert driver.stdin is not None and driver.stdout is not None
    unread = b""
    while True:
        if not select.select([driver.stdout], [], [], 1.0)[0]:
            for target in targets:
                target.check()
            continue
        data = os.read(driver.stdout.fileno(), 65536)
        if not data:
            driver.wait()
            return
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            note = f" {said['note']}" if said.get("note") else ""
            steps(f"{said['phase']}{note}", said["done"], said["total"])
            if said["phase"] == "restart":
                with ThreadPoolExecutor() as together:
                    targets[:] = together.map(afresh, targets)
                fresh = {"targets": [described(target) for target in targets]}
                driver.stdin.write(json.dumps(fresh).encode() + b"\n")
                driver.stdin.flush()


def afresh(target: Target) -> Target:
    """A rung without stores would come back empty: it keeps its processes."""
    return restarted(target) if rung_of(target.rung).servers else target


def end(driver: subprocess.Popen[bytes]) -> None:
    """Ask the driver to write down what it has, and wait for that."""
    driver.send_signal(signal.SIGINT)
    try:
        driver.communicate(timeout=DRIVER_ENDS_S_MAX)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()


TABLE_WIDTH = 100


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)  # a file or pipe has no width


def show(folder: Path) -> None:
    """Print the table of a run and where its files are; of a run that was stopped, how far it came."""
    from analysis import capacity, gate, tables
    from analysis.runs import read_any_manifest

    with usable():
        manifest = read_any_manifest(folder)
        render = {"capacity": capacity.render, "gate": gate.render}.get(manifest.kind, tables.render)
        wide_console().print(render(folder) if manifest.complete else tables.render_unfinished(folder))
    for name, what in (("manifest.json", "Data:  "), ("report.html", "Report:"), ("plots", "Plots: ")):
        if (folder / name).exists():
            print(f"{what} {folder / name}")


def write(folder: Path) -> None:
    """Write the report and the plots of a run."""
    from analysis.report import write_all

    with usable():
        write_all(folder)


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """What the analysis refuses, or a workload, is told to the user."""
    from analysis.runs import UnusableRun
    from loadtests.workload import WorkloadError

    try:
        yield
    except (UnusableRun, WorkloadError) as error:
        raise UserError(str(error)) from None
