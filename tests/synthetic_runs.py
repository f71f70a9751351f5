"""Writes run folders in the results format whose true costs, noise and staleness are known."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import structs
from rich.console import Console, RenderableType

from loadtests.format import OF_EVERY_RUN, TABLES
from loadtests.format import THRESHOLDS as STANDARD

THRESHOLDS = structs.asdict(STANDARD) | {"start_sd": 0.0}
READS = {"order", "customer_orders", "product"}
DELAYS_US = (200, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000, 250_000, 500_000)


@dataclass(frozen=True)
class Truth:
    """One target as it really is: CPU µs a read and a write, how it splits, its latency and its staleness."""

    name: str
    rung: str
    read_us: float
    write_us: float
    split: dict[str, float]
    latency_ms: float = 2.0
    lag_ms: float = 0.0  # mean time until a write is visible; 0 = at once
    known_cpu: bool = True
    operations_us: dict[str, float] = field(default_factory=dict)  # those that differ from read_us and write_us
    idle_us_s: float = 0.0  # CPU a second while nobody asks
    growing: dict[str, float] = field(
        default_factory=dict
    )  # by what share an operation is dearer with twice the orders
    in_mixes: float = 1.0  # times what its operations cost by themselves
    parent: str | None = None  # the rung's
    hit: float | None = None  # the share of reads that its cache answers

    def slice_us(self, asked: dict[str, int], grown: float = 0.0) -> float:
        """The true CPU of half a second in which these operations were asked."""
        each = {name: self.read_us if name in READS else self.write_us for name in asked} | self.operations_us
        each = {name: us * (1 + grown * self.growing.get(name, 0.0)) for name, us in each.items()}
        return sum(count * each[name] for name, count in asked.items()) + 0.503 * self.idle_us_s


CRUD = Truth("crud", "crud", 640.0, 2_200.0, {"app": 0.4, "postgres": 0.6}, 2.4)
# Totals meet where 460·s = 1,100·(1−s): at 70.5 % reads.
CQRS = Truth("cqrs", "cqrs", 180.0, 3_300.0, {"app": 0.45, "projector": 0.2, "postgres": 0.25, "redis": 0.1}, 1.1, 3.0)
MEETING_PCT = 100 * 1_100 / 1_560


@dataclass
class Plan:
    targets: tuple[Truth, ...] = (CRUD, CQRS)
    read_shares: tuple[float, ...] = (50.0, 80.0, 95.0, 99.0)
    rounds: int = 8
    restarts: int = 1
    warmups: int = 1
    operations: int = 150  # a slice
    slice_noise: float = 0.02  # SD of the log of a slice's CPU
    round_noise: float = 0.10  # SD that both targets of a round share
    probes: int = 12
    seed: int = 1
    profile: str = "quick"
    size: str = "s"
    cells: dict[str, dict[str, float]] = field(default_factory=dict)  # of a run of costs: shares by operation
    mix: dict[str, dict[str, float]] = field(default_factory=dict)  # the workload's reads and writes
    slice_edits: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    apart: bool = False  # each round in a folder of its own, as a run on its way has them
    manifest: dict[str, Any] = field(default_factory=dict)


class Writer:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan, self.rng = folder, plan, np.random.default_rng(plan.seed)
        self.slice = self.round = self.placed = 0
        self.tables: dict[str, list[dict[str, Any]]] = {table: [] for table in OF_EVERY_RUN}
        self.files: dict[str, str] = {}

    def write(self) -> Path:
        plan = self.plan
        for restart in range(plan.restarts):
            for cell in [*plan.cells] * plan.rounds:
                self._round({"restart": restart, "read_share_pct": 0, "phase": "measure", "cell": cell})
            for share in plan.read_shares if not plan.cells else ():
                phases = (("warmup", plan.warmups), ("measure", plan.rounds), ("staleness", min(plan.probes, 1)))
                for phase in (phase for phase, count in phases for _ in range(count)):
                    self._round({"restart": restart, "read_share_pct": share, "phase": phase, "cell": None})
        if self.tables["slices"]:
            self._flush()
        (self.folder / "manifest.json").write_text(json.dumps(manifest(plan, self.files), indent=1))
        return self.folder

    def _round(self, of: dict[str, Any]) -> None:
        self.round += 1
        shared, asked = self.rng.normal(0, self.plan.round_noise), self._asked(of["read_share_pct"], of["cell"])
        self.placed += asked.get("place", 0)
        for place in self.rng.permutation(len(self.plan.targets)):
            self.slice += 1
            self._slice(self.tables, self.plan.targets[place], of, asked, shared)
        if self.round == 1 or self.plan.apart:
            self._flush()

    def _flush(self) -> None:
        """The first round has a folder and all others one: thousands of files would be most of these tests' CPU."""
        part = self.folder / "rounds" / f"{self.round:05}"
        part.mkdir(parents=True, exist_ok=True)
        for table, rows in self.tables.items():
            file = part / f"{table}.parquet"
            pl.DataFrame(rows, schema=TABLES[table].schema).write_parquet(file)
            self.files[f"rounds/{part.name}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
            rows.clear()

    def _asked(self, share: float, cell: str | None) -> dict[str, int]:
        """How many of each operation, the same for every target."""
        plan, shares = self.plan, self.plan.cells.get(cell or "", {})
        if cell is None and not plan.mix:
            reads = int(self.rng.binomial(plan.operations, share / 100))
            return {"order": reads, "place": plan.operations - reads}
        if cell is None:
            shares = {name: part * share / 100 for name, part in plan.mix["reads"].items()}
            shares |= {name: part * (1 - share / 100) for name, part in plan.mix["writes"].items()}
        counts = self.rng.multinomial(plan.operations, [*(part / 100 for part in shares.values()), 0])
        return dict(zip(shares, map(int, counts), strict=False))

    def _slice(
        self,
        tables: dict[str, list[dict[str, Any]]],
        truth: Truth,
        of: dict[str, Any],
        asked: dict[str, int],
        shared: float,
    ) -> None:
        plan, rng, count, reads = self.plan, self.rng, sum(asked.values()), sum(asked.get(name, 0) for name in READS)
        row = of | {
            "slice": self.slice, "round": self.round, "target": truth.name, "started_at_us": self.slice * 600_000,
            "wall_us": 500_000, "drain_us": 3_000, "offered": count, "completed": count, "refused": 0, "dropped": 0,
            "errors": 0, "reads": reads, "writes": count - reads, "generator_cpu_us": 30_000, "steal_share": 0.001,
            "throttled_share": 0.0, "drained": True, "lag_events_at_end": 0,
        }  # fmt: skip
        for edit in plan.slice_edits:
            edit(row)
        tables["slices"].append(row)
        tables["samples"] += _samples(rng, self.slice, truth, asked)
        if truth.known_cpu:
            grown = self.placed / plan.manifest.get("plan", {}).get("size", {}).get("orders", np.inf)
            mixed = truth.in_mixes if (of["cell"] or "").startswith("mix") else 1.0
            cpu = mixed * truth.slice_us(asked, grown) * np.exp(shared + rng.normal(0, plan.slice_noise))
            for part, weight in truth.split.items():
                tables["cpu"].append({"slice": self.slice, "component": part, "cpu_us": round(cpu * weight)})
        if truth.hit is not None:
            hits = int(rng.binomial(reads, truth.hit))
            counts = {"cache_hits": hits, "cache_misses": reads - hits, "cache_loads": reads - hits, "else": 7}
            tables["counts"] += [{"slice": self.slice, "counter": name, "count": n} for name, n in counts.items()]
        if of["phase"] == "staleness":
            tables["staleness"] += _probes(rng, self.slice, truth, plan.probes)


def write_run(folder: Path, **changes: Any) -> Path:
    """A run folder of a Plan with these changes."""
    return Writer(folder, Plan(**changes)).write()


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The run with its manifest changed."""
    file = folder / "manifest.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    return folder


def times(truth: Truth, factor: float, **changes: Any) -> Truth:
    """A target that costs so many times as much."""
    each = {name: us * factor for name, us in truth.operations_us.items()}
    more = {"read_us": truth.read_us * factor, "write_us": truth.write_us * factor, "operations_us": each}
    return replace(truth, **more | changes)


def printed(shown: RenderableType, width: int = 100) -> str:
    """What a terminal of that width shows; no line is wider and nothing was cut."""
    console = Console(width=width, file=StringIO())
    console.print(shown)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    return str(text)


def slice_costs(plan: Plan) -> pl.DataFrame:
    """What analysis.costs.slice_costs would give for the plan, without a folder: fast enough for hundreds."""
    rng, rows = np.random.default_rng(plan.seed), []
    rounds = product(range(plan.restarts), plan.read_shares, range(plan.rounds))
    for number, (restart, share, _) in enumerate(rounds, start=1):
        shared = rng.normal(0, plan.round_noise)
        reads = int(rng.binomial(plan.operations, share / 100))
        writes = plan.operations - reads
        for truth in plan.targets:
            noise = np.exp(shared + rng.normal(0, plan.slice_noise))
            cpu = (reads * truth.read_us + writes * truth.write_us) * noise
            rows.append((number, restart, share, truth.name, plan.operations, reads, writes, cpu))
    columns = ["round", "restart", "read_share_pct", "target", "operations", "reads", "writes", "cpu_us"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def manifest(plan: Plan, files: dict[str, str]) -> dict[str, Any]:
    url = "http://127.0.0.1:8080"
    targets = [{"name": t.name, "rung": t.rung, "parent": t.parent, "url": url} for t in plan.targets]
    return {
        "format": 1, "kind": "costs" if plan.cells else "compare", "complete": True, "run": "synthetic",
        "created_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:03:00Z", "profile": plan.profile,
        "fingerprint": {
            "commit": "0123abc", "dirty": False, "targets": targets,
            "workload": {"name": "shop", "rate_per_s": 300} | plan.mix,
            "read_shares": [] if plan.cells else list(plan.read_shares),
            "cells": [{"name": name, "shares": shares} for name, shares in plan.cells.items()],
            "rate_per_s": 300.0, "size": plan.size, "seed": plan.seed, "rounds": plan.rounds, "slice_s": 0.5,
            "restarts": plan.restarts, "placement": "any core", "durability": "on",
            "servers": {"postgres": "18.6", "redis": "9.1.2"},
            "machine": {"cpu": "Synthetic", "cores": 2, "memory_gib": 8, "kernel": "6.1", "python": "3.11"},
        },
        "checks": {
            "conformance": {"operations": 400, "tempos": ["settled", "burst"], "ok": True, "first_difference": None},
            "ledger": {
                "ok": True, "operations": 9_000, "acknowledged": 2_000, "unknown": 0, "lost": 0, "phantom": 0,
                "differing": 0, "first": None,
            },
        },
        "thresholds": THRESHOLDS, "files": files,
    } | plan.manifest  # fmt: skip


def _samples(rng: np.random.Generator, number: int, truth: Truth, asked: dict[str, int]) -> list[dict[str, Any]]:
    names = [name for name, count in asked.items() for _ in range(count)]
    count = len(names)
    due = np.sort(rng.integers(0, 500_000, count))
    lag = rng.integers(20, 200, count)
    service = (truth.latency_ms * 1_000 * np.exp(rng.normal(0, 0.5, count))).astype(int)
    order = rng.permutation(count)
    return [
        {
            "slice": number, "operation": names[order[i]], "kind": "read" if names[order[i]] in READS else "write",
            "due_us": int(due[i]), "sent_us": int(due[i] + lag[i]), "done_us": int(due[i] + lag[i] + service[i]),
            "status": 200, "outcome": "ok", "bytes": 300,
        }
        for i in range(count)
    ]  # fmt: skip


def _probes(rng: np.random.Generator, number: int, truth: Truth, probes: int) -> list[dict[str, Any]]:
    rows = []
    for probe in range(probes):
        visible_at = rng.exponential(truth.lag_ms * 1_000) if truth.lag_ms else 0.0
        stale = [delay < visible_at for delay in DELAYS_US]
        seen = DELAYS_US[sum(stale)] if not all(stale) else None
        rows += [
            {
                "slice": number, "operation": "place", "probe": probe, "delay_us": delay, "stale": is_stale,
                "versions_behind": int(is_stale), "visible_us": seen if delay == DELAYS_US[-1] else None,
            }
            for delay, is_stale in zip(DELAYS_US, stale, strict=True)
        ]  # fmt: skip
    return rows
