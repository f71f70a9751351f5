"""Drives one run: `python -m loadtests.drive PLAN.json` checks, loads and checks again, and writes the results.

Progress goes to stdout as JSON lines {"phase","done","total","note"}; with several restarts it says {"phase":"restart"}
and reads one line {"targets":[…]} from stdin with the new addresses and pids. Exit codes: 0 done, 1 a check failed or a
target broke down, 2 bad input (one sentence on stderr), 130 interrupted.
"""

import datetime
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import locust  # noqa: F401 - first of all modules with sockets: it monkey-patches the process
import msgspec

from loadtests import conformance, results
from loadtests.dataset import POPULATION, Dataset
from loadtests.fill import FillRefused, fill
from loadtests.format import OF_EVERY_RUN, THRESHOLDS, Conformance, Ledger
from loadtests.http import HttpClient, Unreachable
from loadtests.operations import OperationStream, Round
from loadtests.oracle import NotFilled
from loadtests.plan import MIX_WARM_UP_S, PROBES_PER_S, WATCHED, BadPlan, Cell, Plan, PlannedTarget, read
from loadtests.slices import Bench, ComponentGone, Figures, completed

SETTLE_S = 60.0
WARM_WITHIN = 0.05  # three windows of 1 s whose CPU an operation lies this close together are warm


class Stopped(Exception):
    """Somebody wants the run to end; what is measured stays."""


class CheckFailed(Exception):
    """The targets do not agree, or a ledger does not: no figures; the message is one sentence."""


class Run:
    """One run from its first question to its last manifest."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.stopping = plan, False
        data = plan.data if plan.size.customers and plan.size.products else POPULATION
        self.dataset = Dataset(plan.seed, *data)
        self.benches = [Bench(target) for target in plan.targets]
        self.books_open = False

    def go(self) -> None:
        self._speak()
        self._begin()
        try:
            self._fill()
            self._conform()
            self._open_books()
            self._measure()
            self._close_books()
        except BaseException as reason:
            if isinstance(reason, Stopped) and self.books_open:
                self._close_books()  # while the targets are there to ask; a second signal does not wait for it
            self.folder.write_manifest(finished_at=_now())
            raise
        self.folder.write_manifest(complete=True, finished_at=_now())

    def _begin(self) -> None:
        """A new run, or one more session of a run that was stopped: its targets are fresh, so it is a new restart."""
        plan = self.plan
        start = results.RunFolder.reopened if plan.resume else results.RunFolder
        self.folder = start(Path(plan.out), _manifest(plan))
        session, last = self.folder.manifest["sessions"], self.folder.last
        self.earlier = self.rounds = last("round") or 0
        self.slices, before = last("slice") or 0, last("restart")
        self.restart = 0 if before is None else before + 1
        # Ids of its own: a target that is not ours still holds what an earlier session placed.
        self.nonce = plan.run if session == 1 else f"{plan.run}/{session}"
        self.stream = OperationStream(self.dataset, plan.load, self.nonce)
        self.rng = random.Random(f"{plan.seed}/{self.nonce}/order of targets")

    def stop(self, *_: object) -> None:
        """A second signal does not wait."""
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    def say(self, phase: str, done: int, total: int, note: str = "") -> None:
        if self.stopping:
            raise Stopped
        _say(phase, done, total, note)

    def _speak(self) -> None:
        """Each target answers and speaks the contract: told before anything is written."""
        for number, bench in enumerate(self.benches):
            self.say("contract", number, len(self.benches), bench.name)
            _require_contract(bench.target, bench.client, self.plan.asked)

    def _fill(self) -> None:
        if self.plan.fill_over_http or self.dataset.size != self.plan.data:
            for bench in self.benches:
                fill(bench.client, self.dataset, lambda done, total, what: self.say("fill", done, total, what))
                self._settle(bench)

    def _conform(self) -> None:
        verdict = conformance.check(
            [(bench.name, bench.client) for bench in self.benches],
            seed=self.plan.seed,
            nonce=self.nonce,
            only=self.plan.asked if self.plan.has_strangers else None,
            progress=lambda done, total, tempo: self.say("conformance", done, total, tempo),
        )
        self._checked(conformance=verdict)
        if not verdict.ok:
            # The ledger was never opened; a reader is told the first reason first.
            self._checked(ledger=Ledger(False, first="no load: the targets do not answer the same"))
            self.folder.write_manifest(complete=True, finished_at=_now())
            raise CheckFailed(
                f"The targets do not answer the same, so nothing was measured: {verdict.first_difference}"
            )

    def _open_books(self) -> None:
        customers, products = self.stream.watched(WATCHED)
        for number, bench in enumerate(self.benches):
            self.say("baseline", number, len(self.benches), bench.name)
            self._settle(bench)
            bench.oracle.baseline(customers, products)
        self.books_open = True

    def _measure(self) -> None:
        """What is not yet on disk: each repeat of each block of cells, with fresh processes for every repeat."""
        begun, done = False, self.folder.measured()
        for repeat in range(self.plan.restarts):
            todo = [block for cells in self.plan.blocks if (block := _missing(self.plan, done, repeat, cells))]
            if todo and begun:
                self._restart(repeat)
            begun = begun or bool(todo)
            for number, (cells, rounds, probing) in enumerate(todo):
                self._load(cells, self.plan.warm_up_most_s if number == 0 else MIX_WARM_UP_S, rounds, probing)

    def _load(self, cells: list[Cell], warm_up_s: float, rounds: list[int], probing: bool) -> None:
        plan, restart = self.plan, self.restart
        note = "operations" if plan.kind == "costs" else f"{cells[0].read_share_pct:g} % reads"
        warmth = Warmth()
        while not warmth.enough(min(warm_up_s, plan.warm_up_most_s)):
            for cell in cells:
                self.say("warm-up", int(warmth.seconds * 10), int(warm_up_s * 10), note)
                warmth.add(plan.slice_s, self._round(restart, cell, "warmup"))
        orders = [self.rng.sample(range(len(cells)), len(cells)) for _ in range(plan.rounds)]
        turns = [cells[place] for number, order in enumerate(orders) for place in order if number < rounds[place]]
        for number, cell in enumerate(turns):
            self.say("load", number, len(turns), note)
            self._round(restart, cell, "measure")
        self.say("load", len(turns), len(turns), note)
        if probing:
            self.say("staleness", 0, 1, note)
            self._round(restart, cells[0], "staleness")
            self.say("staleness", 1, 1, note)

    def _round(self, restart: int, cell: Cell, phase: str) -> dict[str, Figures]:
        """Every target once, in random order, with the same operations; on disk when all had their turn."""
        plan, round_number = self.plan, self.rounds + 1
        probes = plan.probes_a_start if phase == "staleness" else 0
        slice_s = max(plan.slice_s, probes / PROBES_PER_S) if probes else plan.slice_s
        work = self.stream.round(
            cell.read_share_pct, round_number, slice_s=slice_s, rate_per_s=plan.rate, probes=probes, shares=cell.shares
        )
        tables: dict[str, list[tuple[Any, ...]]] = {table: [] for table in OF_EVERY_RUN}
        found = {}
        for bench in self.rng.sample(self.benches, len(self.benches)):
            self.slices += 1
            figures = found[bench.name] = bench.run(work, slice_s)
            where = (round_number, restart, cell.read_share_pct, cell.name, bench.name, phase)
            add_rows(tables, self.slices, where, work, figures)
            if self.stopping:
                raise Stopped
            if any(pair.stale_with for pair in figures.tokens):
                self._refuse(f"{bench.name} answers a read that carries a command's token without that command")
        self.folder.write_round(round_number, tables)
        self.rounds = round_number
        return found

    def _refuse(self, difference: str) -> None:
        """What breaks the contract under load gives no figures either."""
        found = msgspec.convert(self.folder.manifest["checks"]["conformance"], Conformance)
        self._checked(
            conformance=msgspec.structs.replace(found, ok=False, first_difference=difference),
            ledger=Ledger(False, first=difference),
        )
        self.folder.write_manifest(complete=True, finished_at=_now())
        raise CheckFailed(f"There are no figures: {difference}.")

    def _restart(self, repeat: int) -> None:
        self.restart += 1
        self.say("restart", repeat, self.plan.restarts, "waiting for fresh processes")
        line = sys.stdin.readline()
        try:
            targets = {target.name: target for target in msgspec.json.decode(line, type=_Fresh).targets}
            for bench in self.benches:
                bench.attach(targets[bench.name])
                _require_contract(bench.target, bench.client, self.plan.asked)
                self._settle(bench)
        except (msgspec.DecodeError, KeyError) as error:
            raise BadPlan(f"A restart needs one line with all targets on stdin, not {line[:80]!r}.") from error

    def _close_books(self) -> None:
        verdicts = []
        for bench in self.benches:
            self._settle(bench)
            verdict = bench.oracle.verify(lambda done, total, name=bench.name: _say("ledger", done, total, name))  # type: ignore[misc]
            verdicts.append(
                verdict if verdict.ok else msgspec.structs.replace(verdict, first=f"{bench.name}: {verdict.first}")
            )
        before = self.folder.manifest["checks"]["ledger"]  # of earlier sessions that came to close their books
        before = msgspec.convert(before, Ledger) if before else Ledger(True, rounds=0)
        rounds = (before.rounds or 0) + self.rounds - self.earlier
        total = msgspec.structs.replace(_together([before, *verdicts]), rounds=rounds)
        self._checked(ledger=total)
        if not total.ok:
            self.folder.write_manifest(complete=True, finished_at=_now())
            counts = f"{total.lost} lost, {total.phantom} phantom, {total.differing} differing"
            raise CheckFailed(f"The ledger found wrong data, so there are no figures ({counts}); first: {total.first}")

    def _settle(self, bench: Bench) -> None:
        if not bench.client.settle(SETTLE_S):
            raise CheckFailed(f"Target {bench.name} has not worked off its backlog after {SETTLE_S:g} s.")

    def _checked(self, **check: Conformance | Ledger) -> None:
        checks = self.folder.manifest["checks"] | msgspec.to_builtins(check)
        self.folder.write_manifest(checks=checks)


class Warmth:
    """Whether the targets have warmed up: their CPU an operation in the last three windows of 1 s."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._windows: dict[str, list[float]] = {}
        self._open: dict[str, tuple[float, int, int]] = {}  # seconds, µs, operations of the window under way

    def add(self, slice_s: float, found: dict[str, Figures]) -> None:
        self.seconds += slice_s
        for target, figures in found.items():
            seconds, cpu_us, operations = self._open.get(target, (0.0, 0, 0))
            seconds, cpu_us = seconds + slice_s, cpu_us + sum(figures.cpu_us.values())
            operations += len(figures.played.samples)
            if seconds >= 1.0:
                self._windows.setdefault(target, []).append(cpu_us / max(1, operations))
                seconds, cpu_us, operations = 0.0, 0, 0
            self._open[target] = seconds, cpu_us, operations

    def enough(self, at_most_s: float) -> bool:
        if self.seconds >= at_most_s:
            return True
        lasts = [windows[-3:] for windows in self._windows.values()]
        return bool(lasts) and all(len(last) == 3 and 0 < max(last) <= min(last) * (1 + WARM_WITHIN) for last in lasts)


class _Fresh(msgspec.Struct):
    targets: list[PlannedTarget]


def _require_contract(target: PlannedTarget, client: HttpClient, asked: frozenset[str]) -> None:
    """One question of each kind that the run will ask."""
    who = f"Target {target.name} at {client.url}"
    try:
        health, ready = client.get("/health"), client.get("/ready")
        report = client.get("/reports/top-products?limit=1") if "top_products" in asked else None
        lag = client.lag_events()
    except Unreachable as error:
        raise BadPlan(f"Target {target.name}: {error} Start it, or correct its address.") from error
    if 401 in (health.status, ready.status):
        raise BadPlan(f"{who} wants a token: give the one it was started with.")
    if health.status != 200:
        raise BadPlan(f"{who} says it cannot serve: GET /health answers {health.status}.")
    if lag is None:
        raise BadPlan(f"{who} does not speak the contract: GET /ready answers {ready.status} without lag_events.")
    if report and (report.status != 200 or not report.body.startswith(b'{"products":[')):
        raise BadPlan(f"{who} does not speak the contract: GET /reports/top-products answers {report.status}.")


def _manifest(plan: Plan) -> dict[str, Any]:
    targets = [{"name": t.name, "rung": t.rung, "parent": t.parent, "url": t.url} for t in plan.targets]
    fingerprint = plan.fingerprint | {
        "targets": targets,
        "workload": msgspec.to_builtins(plan.load),
        "read_shares": plan.read_shares,
        "cells": msgspec.to_builtins(plan.blocks[0]) if plan.kind == "costs" else [],
        "rate_per_s": plan.rate,
        "size": plan.size.name,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "slice_s": plan.slice_s,
        "restarts": plan.restarts,
    }
    return {
        "kind": plan.kind,
        "run": plan.run,
        "created_at": _now(),
        "finished_at": None,
        "profile": plan.profile,
        "fingerprint": fingerprint,
        "checks": {"conformance": None, "ledger": None},
        "thresholds": THRESHOLDS,
        "goal": msgspec.to_builtins(plan.goal),
    }


def _missing(
    plan: Plan, done: Counter[tuple[str, str | None, float]], repeat: int, cells: list[Cell]
) -> tuple[list[Cell], list[int], bool] | None:
    """What a repeat of a block lacks: rounds of each cell, and whether staleness; what is there fills early repeats."""
    counts = [done["measure", cell.name, cell.read_share_pct] for cell in cells]
    rounds = [min(plan.rounds, max(0, (repeat + 1) * plan.rounds - count)) for count in counts]
    probing = bool(plan.probes_a_start) and done["staleness", cells[0].name, cells[0].read_share_pct] <= repeat
    return (cells, rounds, probing) if probing or any(rounds) else None


def add_rows(
    tables: dict[str, list[tuple[Any, ...]]], number: int, where: tuple[Any, ...], work: Round, figures: Figures
) -> None:
    played, counts = figures.played, completed(figures.played)
    reads = sum(operation.kind == "read" for operation in work.operations)
    tables["samples"] += [
        (
            number,
            s.operation.name,
            s.operation.kind,
            s.operation.due_us,
            s.sent_us,
            s.done_us,
            s.status,
            s.outcome,
            s.size,
        )
        for s in played.samples
    ]
    tables["slices"].append(
        (
            *(number, *where),
            *(played.started_at_us, played.wall_us, figures.drain_us),
            *(len(work.operations), counts["ok"] + counts["refused"], counts["refused"]),
            *(counts["dropped"], counts["error"], reads, len(work.operations) - reads),
            *(played.generator_cpu_us, figures.steal_share, figures.drained, figures.lag_events_at_end),
        )
    )
    tables["cpu"] += [(number, component, cpu_us) for component, cpu_us in figures.cpu_us.items()]
    tables["staleness"] += [(number, *row) for row in figures.staleness]
    tables["applied"] += [(number, *bucket) for bucket in figures.applied]
    tables["tokens"] += [(number, *pair) for pair in figures.tokens]


def _together(verdicts: list[Ledger]) -> Ledger:
    """The books of all targets as one verdict."""

    def total(field: str) -> int:
        return sum(getattr(verdict, field) for verdict in verdicts)

    counts = {field: total(field) for field in Ledger.__struct_fields__ if field not in ("ok", "first", "rounds")}
    first = next((verdict.first for verdict in verdicts if verdict.first), None)
    return Ledger(ok=all(verdict.ok for verdict in verdicts), first=first, **counts)


def _say(phase: str, done: int, total: int, note: str) -> None:
    print(msgspec.json.encode({"phase": phase, "done": done, "total": total, "note": note}).decode(), flush=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def main(arguments: list[str], kind: type[Run] = Run) -> int:
    if len(arguments) != 1:
        print("Usage: python -m loadtests.drive PLAN.json", file=sys.stderr)
        return 2
    try:
        run = kind(read(arguments[0]))
        signal.signal(signal.SIGINT, run.stop)
        signal.signal(signal.SIGTERM, run.stop)
        run.go()
    except (BadPlan, results.FolderTaken, NotFilled, FillRefused) as error:
        return _end(str(error), 2)
    except (CheckFailed, ComponentGone, Unreachable) as error:
        return _end(str(error), 1)
    except (Stopped, KeyboardInterrupt):
        return _end("Stopped: what was measured is on disk, marked as incomplete.", 130)
    except OSError as error:
        return _end(f"The results cannot be written: {error.strerror} ({error.filename}).", 2)
    return 0


def _end(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
