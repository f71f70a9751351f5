"""Runs a session from start to end: starts and loads the targets, watches the driver, restarts targets on request."""

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from crossover.errors import DEBUG, Fallen, UserError
from crossover.forecast import Forecast
from crossover.machine import fingerprint
from crossover.planning import Session
from crossover.revisions import check_out
from crossover.run_steps import RunSteps
from crossover.so_far import SoFar
from crossover.start import inherited
from crossover.targets import Target, midnight, serving
from crossover.urls import servers_of
from ladder.environment import TOKEN
from ladder.rung import rung as rung_of
from loadtests.plan import Endpoint, Job
from servers.server import fresh_namespace
from servers.supervisor import Processes

Progress = Callable[..., None]  # phase, done, total[, note]
STOPPED, BAD_INPUT = 130, 2
DRIVER_ENDS_S_MAX = 30.0


def measure(session: Session, write: Callable[[Path], None] | None = None) -> None:
    """Measure it and `write` its report; UserError: bad input, Fallen: a failed check. What was measured stays."""
    plan, access = session
    so_far = SoFar(access.out, [*plan.rungs, *plan.external])
    so_far.read()
    with RunSteps(plan.kind, Forecast(plan, writes=write is not None, measured=so_far.measured), so_far) as steps:
        try:
            with contextlib.ExitStack() as stack:
                supervisor = stack.enter_context(Processes())
                commits = {commit: supervisor.folder / "code" / commit for commit in plan.revisions.values()}
                for commit, folder in commits.items():
                    check_out(commit, folder)
                targets = [
                    stack.enter_context(started(session, name, steps, commits.get(plan.revisions.get(name, ""))))
                    for name in plan.rungs
                ]
                drive(job_of(session, targets), supervisor, targets, steps)
        except KeyboardInterrupt:
            if (access.out / "manifest.json").exists() and plan.kind == "compare":
                given = [f"--target={name}={url}" for name, url in plan.external.items() if access.token]
                again = shlex.join(["--resume", str(access.out), *given])
                print(f"Stopped. To go on: crossover compare {again}", file=sys.stderr)
            raise
        if write is not None:
            steps("report", 0, 1)
            write(access.out)


def started(session: Session, name: str, steps: Progress, code: Path | None = None) -> AbstractContextManager[Target]:
    """A target in a namespace of this session alone, which is dropped from the user's own servers afterwards."""
    plan, access = session
    return serving(
        plan.rungs[name],
        name=name,
        size="empty" if plan.fill_over_http else plan.size.name,
        seed=plan.seed,
        token=access.token,
        urls=access.urls,
        durability=plan.durability,
        clients=plan.clients,
        namespace=fresh_namespace(name),
        ephemeral=True,
        code=code,
        until=midnight(),
        # Connections are counted before the first is started: later they may be in use, or not yet.
        beside=[*plan.rungs.values()][1:] if name == next(iter(plan.rungs)) else (),
        progress=steps,
    )


def job_of(session: Session, targets: Sequence[Target]) -> Job:
    plan, access = session
    measured = {target.rung for target in targets}
    ours = [endpoint_of(target, measured, plan.revisions.get(target.name)) for target in targets]
    external = [
        Endpoint(name, url, token=access.token, processes=access.pids.get(name, {}))
        for name, url in plan.external.items()
    ]
    given = [name for name in servers_of(plan.rungs.values()) if name in access.urls]
    elsewhere = [*(name for name in plan.external if name not in access.pids), *given]
    return Job(
        plan=plan,
        out=str(access.out),
        endpoints=(*ours, *external),
        facts=fingerprint([*targets], elsewhere),
        resume=access.resume,
    )


def endpoint_of(target: Target, measured: Set[str] = frozenset(), commit: str | None = None) -> Endpoint:
    """Its parent is the nearest rung below that is measured too; the rung at another commit is another rung."""
    parent = rung_of(target.rung).parent
    while parent is not None and parent not in measured:
        parent = rung_of(parent).parent
    return Endpoint(
        target.name,
        target.url,
        f"{target.rung}@{commit[:12]}" if commit else target.rung,
        parent,
        target.env.get(TOKEN),
        target.processes,
    )


def drive(job: Job, supervisor: Processes, targets: list[Target], steps: Progress) -> None:
    """Run the driver to its end."""
    path = supervisor.folder / "JOB.json"  # no part of the run: it may hold a token
    path.touch(0o600)
    path.write_bytes(msgspec.json.encode(job))
    module = "loadtests.capacity" if job.plan.goal else "loadtests.drive"
    supervisor.start("driver", [sys.executable, "-m", module, path], env=inherited(), pipes=True)
    driver = supervisor.children["driver"]
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
        if "Traceback" not in supervisor.log("driver").read_text(errors="replace"):
            raise Fallen(sentence)
        raise Fallen(last if os.environ.get(DEBUG) else f"The load generator has a bug: run it again with {DEBUG}=1.")


def follow(driver: subprocess.Popen[bytes], targets: list[Target], steps: Progress) -> None:
    """Show the driver's progress, and give it fresh processes when it asks for them."""
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
            step = json.loads(line)
            steps(step["phase"], step["done"], step["total"], step["note"])
            if step["phase"] == "restart":
                with ThreadPoolExecutor() as pool:
                    targets[:] = pool.map(with_fresh_processes, targets)
                fresh = {"endpoints": [endpoint_of(target) for target in targets]}
                driver.stdin.write(msgspec.json.encode(fresh) + b"\n")
                driver.stdin.flush()


def with_fresh_processes(target: Target) -> Target:
    """A rung without servers would come back empty: it keeps its processes."""
    return target.restarted() if rung_of(target.rung).servers else target


def end(driver: subprocess.Popen[bytes]) -> None:
    """Ask the driver to write down what it has, and wait for that."""
    driver.send_signal(signal.SIGINT)
    try:
        driver.communicate(timeout=DRIVER_ENDS_S_MAX)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
