"""Drives one run: `python -m loadtests.drive JOB.json` checks the targets, loads them, checks again, and writes.

Progress goes to stdout as JSON lines {"phase","done","total","note"}. With several starts it prints
{"phase":"restart"} and reads one line {"endpoints":[…]} from stdin, with the new addresses and pids. Exit codes: 0
done, 1 a check failed or a target broke down, 2 bad input (one sentence on stderr), 130 interrupted.
"""

import random
import signal
import sys
from collections.abc import Mapping
from typing import NoReturn

import locust  # noqa: F401 - first of all modules with sockets: it monkey-patches the process
import msgspec
from msgspec.structs import replace

from loadtests import conformance
from loadtests.dataset import POPULATION, Dataset
from loadtests.fill import FillRefused, fill
from loadtests.format import OF_EVERY_RUN, THRESHOLDS, Conformance, Ledger
from loadtests.http import Unreachable, require_contract
from loadtests.operations import OperationStream
from loadtests.oracle import NotFilled, together
from loadtests.plan import MIX_WARM_UP_S, PROBES_PER_S, BadPlan, Block, Cell, Endpoint, Job, missing, read_job
from loadtests.results import FolderTaken, RunFolder
from loadtests.target import ComponentGone, Figures, Rows, TargetUnderTest, Warmth

SETTLE_S = 60.0
WATCHED = 500  # customers, and products, whose totals the ledger follows


class Stopped(Exception):
    """The run is asked to end; what was measured stays."""


class CheckFailed(Exception):
    """The targets do not agree, or the ledger does not: no figures; the message is one sentence."""


class NotSettled(Exception):
    """A target does not catch up; the message is one sentence."""


class Run:
    """One session of a run, from its first request to its last manifest."""

    def __init__(self, job: Job) -> None:
        self.job, self.plan, self.stopping = job, job.plan, False
        size = self.plan.size
        populated = (size.customers, size.products, size.orders) if size.customers and size.products else POPULATION
        self.dataset = Dataset(self.plan.seed, *populated)
        self.must_fill = self.plan.fill_over_http or not (size.customers and size.products)
        self.targets = [TargetUnderTest(endpoint) for endpoint in job.endpoints]
        self.has_baseline = False

    def go(self) -> None:
        self._require_contract()
        self._open_folder()
        try:
            self._fill()
            self._require_conformance()
            self._take_baseline()
            self._measure()
            self._verify()
        except BaseException as reason:
            if isinstance(reason, Stopped) and self.has_baseline:
                self._verify()  # while the targets are there to ask; a second signal does not wait for it
            if not isinstance(reason, CheckFailed):
                self.folder.end(complete=False)
            raise
        self.folder.end(complete=True)

    def stop(self, *_: object) -> None:
        """A second signal does not wait."""
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    def report(self, phase: str, done: int, total: int, note: str = "") -> None:
        if self.stopping:
            raise Stopped
        _report(phase, done, total, note)

    def _require_contract(self) -> None:
        """Before anything is written."""
        for number, target in enumerate(self.targets):
            self.report("contract", number, len(self.targets), target.name)
            require_contract(target.name, target.client, self.plan.workload.operations)

    def _open_folder(self) -> None:
        """Of a new run, or for one more session of a stopped one: its targets are fresh, so it is a new restart."""
        self.folder = RunFolder(self.job)
        session, last = self.folder.manifest.sessions, self.folder.last
        self.earlier = self.rounds = last("round") or 0
        self.slices, before = last("slice") or 0, last("restart")
        self.restart = 0 if before is None else before + 1
        # Ids of its own: an external target still holds what an earlier session placed.
        self.nonce = self.plan.run if session == 1 else f"{self.plan.run}/{session}"
        self.stream = OperationStream(self.dataset, self.plan.workload, self.nonce)
        self.rng = random.Random(f"{self.plan.seed}/{self.nonce}/order of targets")

    def _fill(self) -> None:
        for target in self.targets if self.must_fill else ():
            fill(target.client, self.dataset, lambda done, total, what: self.report("fill", done, total, what))
            self._settle(target)

    def _require_conformance(self) -> None:
        found = conformance.check(
            [(target.name, target.client) for target in self.targets],
            seed=self.plan.seed,
            nonce=self.nonce,
            # A service of the user's may lack the other operations.
            only=self.plan.workload.operations if self.plan.external else None,
            progress=lambda done, total, tempo: self.report("conformance", done, total, tempo),
        )
        self.folder.check(conformance=found)
        if not found.ok:
            # There is no ledger, so the report gives the first reason.
            self.folder.check(ledger=Ledger(False, first="no load: the targets do not answer the same"))
            self._fail(f"The targets do not answer the same, so nothing was measured: {found.first_difference}")

    def _take_baseline(self) -> None:
        customers, products = self.stream.watched(WATCHED)
        for number, target in enumerate(self.targets):
            self.report("baseline", number, len(self.targets), target.name)
            self._settle(target)
            target.oracle.baseline(customers, products)
        self.has_baseline = True

    def _measure(self) -> None:
        """What is not yet on disk: each start of each block of cells, with fresh processes for every start."""
        begun, done = False, self.folder.measured()
        for start in range(self.plan.restarts):
            blocks = [block for cells in self.plan.blocks if (block := missing(self.plan, done, start, cells))]
            if blocks and begun:
                self._restart(start)
            begun = begun or bool(blocks)
            for number, block in enumerate(blocks):
                warm_up_s = self.plan.warm_up_s
                self._measure_block(block, warm_up_s if number == 0 else min(MIX_WARM_UP_S, warm_up_s))

    def _measure_block(self, block: Block, warm_up_s: float) -> None:
        cells = block.cells
        note = "operations" if cells[0].name else f"{cells[0].read_share_pct:g}% reads"
        for target in self.targets:
            target.warm_up()
        warmth = Warmth()
        while not warmth.enough(warm_up_s):
            for cell in cells:
                self.report("warm-up", int(warmth.seconds * 10), int(warm_up_s * 10), note)
                warmth.add(self.plan.slice_s, self._round(cell, "warmup"))
        orders = [self.rng.sample(range(len(cells)), len(cells)) for _ in range(self.plan.rounds)]
        turns = [cells[place] for number, order in enumerate(orders) for place in order if number < block.rounds[place]]
        planned = len(turns)
        for number, cell in enumerate(turns):
            self.report("load", number, len(turns), note)
            may_repeat = len(turns) < 2 * planned
            if stolen(self._round(cell, "measure", may_repeat=may_repeat)) and may_repeat:
                turns.append(cell)  # its turn comes again at the end
        self.report("load", len(turns), len(turns), note)
        if block.probing:
            self.report("staleness", 0, 1, note)
            self._round(cells[0], "staleness")
            self.report("staleness", 1, 1, note)

    def _round(self, cell: Cell, phase: str, *, may_repeat: bool = False) -> dict[str, Figures]:
        """Every target once, in random order, with the same operations; on disk when all had their turn.

        A round of `measure` that steal disturbed is kept with the phase `stolen` if it may be repeated.
        """
        plan, number = self.plan, self.rounds + 1
        probes = plan.probes_a_start if phase == "staleness" else 0
        slice_s = max(plan.slice_s, probes / PROBES_PER_S) if probes else plan.slice_s
        work = self.stream.round(
            cell.read_share_pct, number, slice_s=slice_s, rate_per_s=plan.rate_per_s, probes=probes, shares=cell.shares
        )
        found = {}
        for target in self.rng.sample(self.targets, len(self.targets)):
            figures = found[target.name] = target.run(work, slice_s)
            if self.stopping:
                raise Stopped
            if any(row.stale_with for row in figures.tokens):
                self._refuse(f"{target.name} answers a read that carries a command's token without that command")
        if may_repeat and stolen(found):
            phase = "stolen"
        tables: Rows = {table: [] for table in OF_EVERY_RUN}
        for name, figures in found.items():
            self.slices += 1
            rows = figures.rows(self.slices, number, self.restart, cell.read_share_pct, cell.name, name, phase)
            for table, added in rows.items():
                tables[table] += added
        self.folder.write_round(number, tables)
        self.rounds = number
        return found

    def _refuse(self, difference: str) -> None:
        """A target that breaks the contract under load gives no figures either."""
        found = self.folder.manifest.checks.conformance or Conformance(True)
        found = replace(found, ok=False, first_difference=difference)
        self.folder.check(conformance=found, ledger=Ledger(False, first=difference))
        self._fail(f"There are no figures: {difference}.")

    def _restart(self, start: int) -> None:
        self.restart += 1
        self.report("restart", start, self.plan.restarts, "waiting for fresh processes")
        line = sys.stdin.readline()
        try:
            endpoints = {endpoint.name: endpoint for endpoint in msgspec.json.decode(line, type=_Fresh).endpoints}
            for target in self.targets:
                target.attach(endpoints[target.name])
        except (ValueError, KeyError) as error:
            raise BadPlan("A restart needs one line with all endpoints on stdin.") from error
        for target in self.targets:
            require_contract(target.name, target.client, self.plan.workload.operations)
            self._settle(target)

    def _verify(self) -> None:
        """The ledger of this session, added to those of earlier sessions that came to verify theirs."""
        ledgers = [self.folder.manifest.checks.ledger or Ledger(True, rounds=0)]
        for target in self.targets:
            self._settle(target)
            found = target.oracle.verify(lambda done, total, name=target.name: _report("ledger", done, total, name))  # type: ignore[misc]
            ledgers.append(found if found.ok else replace(found, first=f"{target.name}: {found.first}"))
        rounds = (ledgers[0].rounds or 0) + self.rounds - self.earlier
        total = replace(together(ledgers), rounds=rounds)
        self.folder.check(ledger=total)
        if not total.ok:
            counts = f"{total.lost} lost, {total.phantom} phantom, {total.differing} differing"
            self._fail(f"The ledger found wrong data, so there are no figures ({counts}); first: {total.first}")

    def _fail(self, sentence: str) -> NoReturn:
        """A run whose checks failed is complete: there is nothing to resume."""
        self.folder.end(complete=True)
        raise CheckFailed(sentence)

    def _settle(self, target: TargetUnderTest) -> None:
        if not target.client.settle(SETTLE_S):
            raise NotSettled(f"Target {target.name} has not worked off its backlog after {SETTLE_S:g} s.")


class _Fresh(msgspec.Struct):
    endpoints: list[Endpoint]


def stolen(found: Mapping[str, Figures]) -> bool:
    """Whether the hypervisor took more CPU from a slice of the round than a measurement bears."""
    return any((figures.steal_share or 0.0) > THRESHOLDS.steal_share_max for figures in found.values())


def _report(phase: str, done: int, total: int, note: str) -> None:
    print(msgspec.json.encode({"phase": phase, "done": done, "total": total, "note": note}).decode(), flush=True)


def main(arguments: list[str], mode: type[Run] = Run) -> int:
    if len(arguments) != 1:
        return _end("Usage: python -m loadtests.drive JOB.json", 2)
    try:
        run = mode(read_job(arguments[0]))
        signal.signal(signal.SIGINT, run.stop)
        signal.signal(signal.SIGTERM, run.stop)
        run.go()
    except (BadPlan, FolderTaken, NotFilled, FillRefused) as error:
        return _end(str(error), 2)
    except (CheckFailed, NotSettled, ComponentGone, Unreachable) as error:
        return _end(str(error), 1)
    except (Stopped, KeyboardInterrupt):
        return _end("Stopped: what was measured is on disk, marked as incomplete.", 130)
    except OSError as error:
        return _end(f"The results cannot be written: {error.strerror or error} ({error.filename or run.job.out}).", 2)
    return 0


def _end(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
