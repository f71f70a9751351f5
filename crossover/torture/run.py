"""One torture: load and faults, then a check of every promise, before and after anything that rebuilds the views."""

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from crossover.errors import UserError
from crossover.planning import free_folder
from crossover.progress import Steps
from crossover.targets import known_clients, known_rung
from crossover.torture.deployment import Deployment
from crossover.torture.faults import Scheduled, faults_of, is_possible, wanted_kinds
from crossover.torture.faulty_feed import POISONED
from crossover.torture.links import Links
from crossover.torture.load import RATE_PER_S, WORDS, Load
from crossover.torture.nemesis import REASON_S_MAX, Fault, recovery, torment
from crossover.torture.report import Report, Results, show
from ladder.environment import LEVELS
from ladder.rung import has_views
from ladder.rung import rung as rung_of
from loadtests.http import HttpClient, HttpResponse
from loadtests.judge import Finding, judge_rebuild
from loadtests.oracle import Oracle, judge_everything
from loadtests.sessions import judge_sessions, judge_statuses, uncertain
from servers.supervisor import Processes

POISONED_EVENTS, POISON_S = 3, 3.0
REBUILDING_SHARE = 0.25  # of the time, at its end, where the views can be lost
SETTLE_S_MAX, READY_S_MAX = 15.0, 30.0
QUIET_POLLS = 3  # in a row, before a system counts as settled
POOL_IN_USE = re.compile(rb"^database_pool_in_use (\S+)$", re.MULTILINE)


def torture(
    rung: str,
    *,
    seconds: float,
    seed: int,
    faults: str,
    out: Path | None,
    rate_per_s: float = RATE_PER_S,
    clients: str = LEVELS[0],
    module: str = "ladder.run",
) -> Report:
    """Torture a rung on servers of its own, show and keep what came of it. `module` runs the app and the workers."""
    one = rung_of(known_rung(rung))
    kinds = wanted_kinds(faults, one)
    if not one.servers:
        raise UserError(f"{rung} keeps nothing in a server, so there is nothing to torture: choose another rung.")
    folder = out or Path("results") / f"torture-{time.strftime('%Y%m%d-%H%M%S')}-{rung}-{seed}"
    free_folder(folder)
    console = Console()
    console.print(f"Torture of {rung} for {seconds:g} s, seed {seed}.", highlight=False)
    with Processes() as supervisor, Links() as links, Steps("torture") as steps:
        steps(f"starting {rung}", 0, 0)
        deployment = Deployment(supervisor, links, one, module, known_clients(clients))
        with Torture(deployment, seed, kinds, steps, rate_per_s) as torture:
            try:
                torture.run(seconds)
            finally:
                torture.results.keep(folder)  # also of a torture that was stopped
    return show(console, torture.results.report(rung=rung, seed=seed, seconds=seconds), torture.results, folder)


class Torture:
    """A context: one rung, its load, and what is found; each phase ends with a check of everything."""

    def __init__(
        self, deployment: Deployment, seed: int, kinds: Sequence[str], steps: Steps, rate_per_s: float = RATE_PER_S
    ) -> None:
        self.deployment, self.kinds, self.steps = deployment, kinds, steps
        self._rng = random.Random(seed)
        self._recorded = 0
        deployment.open()
        deployment.await_status("/ready", READY_S_MAX)
        self.load = Load(deployment.url, seed, rate_per_s)
        self.results = Results(self.load.entries)
        self._client = HttpClient(deployment.url)
        self._oracle = Oracle(self._client)
        self.load.fill()

    def __enter__(self) -> "Torture":
        return self

    def __exit__(self, *_: object) -> None:
        self.load.close()

    def run(self, seconds: float) -> None:
        faults = [
            f for f in faults_of(self.deployment.rung) if f.kind in self.kinds and is_possible(f, self.deployment)
        ]
        applied = {fault.kind for fault in faults}
        first, rebuilding = [f for f in faults if not f.rebuilds], [f for f in faults if f.rebuilds]
        share = (REBUILDING_SHARE if first else 1.0) if rebuilding else 0.0
        self.faults("faults", first, seconds * (1 - share))
        self.check("faults")
        if rebuilding:
            others = self._rng.sample(first, min(len(first), len(rebuilding)))
            self.faults("loss of views", rebuilding + others, seconds * share)
            self.check("loss of views")
        fed = set(self.deployment.fed())
        if "poison" in self.kinds and (workers := [one for one in self.deployment.with_dead_letters() if one in fed]):
            self.poison(workers)
            applied.add("poison")
        if has_views(self.deployment.rung):
            self.rebuild()
        self.results.left_out = [kind for kind in self.kinds if kind not in applied]
        violations, self.results.stale, self.results.stale_of = judge_sessions(self.load.entries, self.results.restored)
        self.results.find("all phases", violations)

    def faults(self, phase: str, faults: Sequence[Scheduled], seconds: float) -> None:
        """Load and nemesis together, until the last answer has come or is given up."""
        start_s = self.load.now_s()

        def report(fault: Fault) -> None:
            self.results.faults.append(fault)
            if fault.reason == "":
                what = f"/ready gave no reason within {REASON_S_MAX:g} s of {fault.kind}"
                self.results.find(phase, [Finding("trouble", f"{what}, {fault.start_s:.1f} s after the start")])
            back = ", ".join("never" if s is None else f"{s:.2f} s" for s in (fault.recovery_s, fault.convergence_s))
            self.steps.console.print(
                f"{fault.start_s:6.1f} s  {fault.kind} ({fault.where}) for {fault.end_s - fault.start_s:.1f} s: {back}",
                highlight=False,
            )
            self.steps(phase, int(self.load.now_s() - start_s), int(seconds))

        self.steps(phase, 0, int(seconds))
        until_s = start_s + seconds
        self.load.during(lambda: torment(self.deployment, self.load, faults, self._rng, until_s, report))

    def check(self, phase: str) -> dict[str, HttpResponse]:
        """Settle, then ask for everything and judge it."""
        self.steps(f"checking after {phase}", 0, 0)
        new, self._recorded = self.load.entries[self._recorded :], len(self.load.entries)
        self._oracle.record(uncertain(entry, self.results.restored) for entry in new)
        self.results.find(phase, judge_statuses(new))
        self.settle(phase)
        evidence = self._oracle.ask_everything(WORDS)
        findings, self.results.resolved = judge_everything(self._oracle.history, evidence, WORDS)
        self.results.find(phase, findings)
        return evidence.answers

    def settle(self, phase: str, *, parked: int = 0) -> int:
        """Wait until no write is under way and nothing but `parked` events is left to project; how many are parked."""
        deadline_s, quiet, ready = time.monotonic() + SETTLE_S_MAX, 0, _Ready(-1, -1)
        while quiet < QUIET_POLLS:
            answer, metrics = self._client.get("/ready"), self._client.get("/metrics").body
            if answer.status == 200:
                ready = msgspec.json.decode(answer.body, type=_Ready)
            in_use = POOL_IN_USE.search(metrics)
            is_quiet = ready == _Ready(0, parked) and (in_use is None or float(in_use[1]) == 0)
            quiet = quiet + 1 if is_quiet else 0
            if time.monotonic() > deadline_s:
                self.results.find(phase, [Finding("trouble", f"not settled within {SETTLE_S_MAX:g} s: {ready}")])
                break
            time.sleep(0.05)
        return ready.parked_events

    def poison(self, workers: Sequence[str]) -> None:
        """Events that cannot be read wait, they alone, while others go on; once they can be, a replay heals all.

        Their customers buy nothing, so that as many events are parked as were poisoned.
        """
        self.steps("poison", 0, 0)
        load, deployment, start_s = self.load, self.deployment, self.load.now_s()
        for worker in workers:  # whichever of them an event comes to
            deployment.kill(worker)
            deployment.start_faulty(worker, worker, "poison")
        session, known = load.session(tokens=False), len(load.shop.customers)
        for _ in range(POISONED_EVENTS):
            step = load.shop.register(session.rng, (POISONED,))
            while session.perform(step).outcome != "ok":
                time.sleep(0.05)
        load.shop.customers[:] = load.shop.customers[:known]
        self.load.during(lambda: time.sleep(POISON_S))
        parked = self.settle("poison", parked=POISONED_EVENTS)
        for worker in workers:
            deployment.kill(worker)
            deployment.start(worker)
        end_s = load.now_s()
        if not deployment.replay():
            self.results.find("poison", [Finding("trouble", "a replay did not heal what was parked")])
        self.results.parked = f"{parked} of {POISONED_EVENTS} poisoned"
        again = list[tuple[float | None, float | None]]()
        load.during(lambda: again.append(recovery(load, load.done(), end_s)))
        self.results.faults.append(Fault("poison", ", ".join(workers), start_s, end_s, *again[0]))
        self.check("poison")

    def rebuild(self) -> None:
        """Build the views from nothing: they must answer what the live ones did, or the event log is not whole."""
        before = self.check("rebuild")
        self.steps("rebuilding from nothing", 0, 0)
        start_s = self.load.now_s()
        self.deployment.rebuild()
        self.settle("rebuild")
        self.results.rebuild_s = self.load.now_s() - start_s
        evidence = self._oracle.ask_everything(WORDS)
        self.results.find("rebuild", judge_rebuild(before, evidence.answers))


class _Ready(msgspec.Struct):
    lag_events: int
    parked_events: int
