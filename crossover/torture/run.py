"""One torture: load and faults, then every promise checked, before and after anything that rebuilds the read store."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from crossover.errors import Fallen, UserError
from crossover.planning import free_folder
from crossover.progress import Steps
from crossover.targets import known_rung
from crossover.torture.checker import (
    expected_answers,
    judge_commands,
    judge_events,
    judge_manners,
    judge_reads,
    judge_rebuild,
    judge_sessions,
    judge_truth,
    resolved,
)
from crossover.torture.clients import GOODS, NAMES, Client, Shop, clock, recover
from crossover.torture.history import Fault, Finding
from crossover.torture.nemesis import REBUILDING, Card, deck, torment, wanted_kinds
from crossover.torture.report import Books, Report, keep, show, write_report
from crossover.torture.stage import Stage
from crossover.torture.truth import answers_to, truth_of, views_of
from crossover.torture.wire import Wire
from ladder.rung import rung as rung_of
from servers.supervisor import Processes

CLIENTS = 10
POISONED, POISON_S = 3, 3.0
SPOIL = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.body LIKE '%Mallory%' THEN NEW.body = '{' || NEW.body; END IF; RETURN NEW; END $$;
CREATE TRIGGER spoil BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION spoil()"""
MEND = "DROP TRIGGER spoil ON outbox; UPDATE outbox SET body = substr(body, 2) WHERE body LIKE '{{%'"
REBUILDING_SHARE = 0.25  # of the time, at its end, where the read store can be lost
SETTLE_S_MAX = 15.0
READY_S_MAX = 30.0


def torture(
    rung: str, *, seconds: float, seed: int, faults: str, out: Path | None, serving: str = "ladder.run"
) -> Report:
    """Torture a rung on servers of its own, show and keep what came of it. `serving` runs the app and the workers."""
    kinds = wanted_kinds(faults)
    if not rung_of(known_rung(rung)).servers:
        raise UserError(f"{rung} keeps nothing in a store, so there is nothing to torture: choose another rung.")
    folder = out or Path("results") / f"torture-{time.strftime('%Y%m%d-%H%M%S')}-{rung}-{seed}"
    free_folder(folder)
    console = Console()
    console.print(f"Torture of {rung} for {seconds:g} s, seed {seed}.", highlight=False)
    with Processes() as supervisor, Steps("torture") as steps:
        steps(f"starting {rung}", 0, 0)
        torturing = Torturing(Stage(supervisor, rung, serving), seconds, seed, kinds, steps)
        try:
            report = asyncio.run(torturing.all())
        finally:
            if torturing.books.operations:
                keep(folder, torturing.books)  # also of a torture that was stopped
    write_report(folder, report)
    show(console, report, torturing.books.findings, folder)
    return report


class Torturing:
    def __init__(self, stage: Stage, seconds: float, seed: int, kinds: tuple[str, ...], steps: Steps) -> None:
        self.stage, self.seconds, self.seed, self.kinds, self.steps = stage, seconds, seed, kinds, steps
        self.shop = Shop(seed, clock())
        self.rng = random.Random(seed)
        self.books = Books(self.shop.operations, [], [])
        self.parked, self.resolved = "–", 0
        self.rebuild_s: float | None = None

    async def all(self) -> Report:
        stage = self.stage
        for number in (signal.SIGTERM, signal.SIGHUP):  # an exception thrown into any task could be lost in it
            asyncio.get_running_loop().add_signal_handler(number, os.kill, os.getpid(), signal.SIGINT)
        try:
            await self.open()
            cards = deck(stage, self.kinds)
            gentle = [card for card in cards if card.kind not in REBUILDING]
            rebuilding = [card for card in cards if card.kind in REBUILDING]
            share = REBUILDING_SHARE if rebuilding else 0.0
            await self.load("faults", gentle, self.seconds * (1 - share))
            await self.check("faults")
            if rebuilding:
                rest = self.rng.sample(gentle, min(len(gentle), len(rebuilding)))
                await self.load("loss of the read store", rebuilding + rest, self.seconds * share)
                await self.check("loss of the read store")
            applied = {card.kind for card in cards}
            if "poison" in self.kinds and stage.workers:
                await self.poison()
                applied.add("poison")
            await self.rebuild()
            return self._report(applied)
        finally:
            stage.close()

    async def open(self) -> None:
        """Start everything, and let the shop have customers and goods before anything goes wrong."""
        await asyncio.to_thread(self.stage.start_stores)
        await self.stage.open()
        await self._until_ready()
        await self.shop.fill(self.stage.port)

    async def _until_ready(self) -> None:
        wire, deadline_s = Wire(self.stage.port), self.shop.now_s() + READY_S_MAX
        while (await wire.ask("GET", "/ready")).status != 200:
            await self.stage.check()
            if self.shop.now_s() > deadline_s:
                raise Fallen(f"Waited {READY_S_MAX:g} s for {self.stage.rung} to be ready, in vain.")
            await asyncio.sleep(0.05)
        wire.close()

    async def load(self, phase: str, cards: list[Card], seconds: float) -> None:
        """Clients and nemesis together, until the last answer has come or is given up."""
        now_s, start_s = self.shop.now_s, self.shop.now_s()
        until_s = start_s + seconds
        clients = [
            Client(f"{phase} {number}", self.shop, self.stage.port, tokens=number % 2 == 0) for number in range(CLIENTS)
        ]

        def told(fault: Fault) -> None:
            self.books.faults.append(fault)
            back = ", ".join("never" if s is None else f"{s:.2f} s" for s in (fault.recovery_s, fault.convergence_s))
            self.steps.console.print(
                f"{fault.start_s:6.1f} s  {fault.kind} ({fault.where}) for {fault.end_s - fault.start_s:.1f} s: {back}",
                highlight=False,
            )
            self.steps(phase, int(now_s() - start_s), int(seconds))

        self.steps(phase, 0, int(seconds))
        work = [client.run(until_s) for client in clients]
        await asyncio.gather(*work, torment(self.stage, self.shop, cards, self.rng, until_s, told))
        await asyncio.gather(*self.shop.late)
        self.shop.late.clear()

    async def check(self, phase: str) -> None:
        self.steps(f"checking after {phase}", 0, 0)
        operations = self.shop.operations
        await self.settle(phase)
        truth = await truth_of(self.stage)
        self._find(phase, judge_commands(operations, truth))
        self._find(phase, judge_truth(operations, truth))
        self._find(phase, judge_events(truth))
        expected = expected_answers(truth, operations, NAMES + GOODS)
        self._find(phase, judge_reads(expected, await answers_to(self.stage.port, expected)))
        self._find(phase, judge_manners(operations))
        self.resolved = resolved(operations, truth)

    async def settle(self, phase: str, *, parked: int = 0) -> int:
        """Wait until nobody writes and nothing but `parked` events is left to project; returns how many are parked."""
        wire, deadline_s = Wire(self.stage.port), self.shop.now_s() + SETTLE_S_MAX
        writing = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
        ready = {"lag_events": -1, "parked_events": -1}
        while await self.stage.ask(f"{writing} AND pid <> pg_backend_pid()") or list(ready.values()) != [0, parked]:
            reply = await wire.ask("GET", "/ready")
            if reply.status == 200:
                ready = {key: json.loads(reply.body)[key] for key in ready}
            if self.shop.now_s() > deadline_s:
                self._find(phase, [Finding("trouble", f"not settled within {SETTLE_S_MAX:g} s: {ready}")])
                break
            await asyncio.sleep(0.05)
        wire.close()
        return ready["parked_events"]

    async def poison(self) -> None:
        """Events that nobody can read wait, they alone, and others go on; once they are mended a replay heals all.

        Their customers buy nothing, so that as many events are parked as were poisoned.
        """
        self.steps("poison", 0, 0)
        shop, stage = self.shop, self.stage
        await stage.ask(SPOIL)
        start_s = shop.now_s()
        poisoner = Client("poisoner", shop, stage.port, tokens=False)
        for _ in range(POISONED):
            wish = shop.register(poisoner.rng, ("Mallory",))
            await poisoner.perform(wish)
            shop.customers.remove(wish.id)
        await self.load("poison", [], POISON_S)
        ready = await self.settle("poison", parked=POISONED)
        await stage.ask(MEND)
        end_s = shop.now_s()
        if await stage.run("replay", "crossover.cli") != 0:
            self._find("poison", [Finding("trouble", "a replay did not heal what was mended")])
        self.parked = f"{ready} of {POISONED} poisoned"
        again = await recover(shop, stage.port, end_s)
        self.books.faults.append(Fault("poison", "projector", start_s, end_s, *again))
        await self.check("poison")

    async def rebuild(self) -> None:
        before = await views_of(self.stage)
        if not before:
            return
        self.steps("rebuilding from nothing", 0, 0)
        start_s = self.shop.now_s()
        await self.stage.rebuild()
        await self.settle("rebuild")
        self.rebuild_s = self.shop.now_s() - start_s
        self._find("rebuild", judge_rebuild(before, await views_of(self.stage)))

    def _find(self, phase: str, findings: Iterable[Finding]) -> None:
        """What an earlier phase has found already is not counted again."""
        known = {(finding.kind, finding.what) for finding in self.books.findings}
        self.books.findings.extend(Finding(f.kind, f.what, phase) for f in findings if (f.kind, f.what) not in known)

    def _report(self, applied: set[str]) -> Report:
        operations = self.shop.operations
        violations, stale, reads = judge_sessions(operations)
        self._find("all phases", violations)
        return self.books.report(
            rung=self.stage.rung,
            seed=self.seed,
            seconds=self.seconds,
            resolved=self.resolved,
            left_out=[kind for kind in self.kinds if kind not in applied],
            parked=self.parked,
            stale_share=stale / reads if reads else None,
            rebuild_s=self.rebuild_s,
        )
