"""The capacity of a rung on more servers: measured CPU demands, and the upper bound that the bottleneck law gives.

Throughput cannot exceed m/D, where D is the CPU per operation of the busiest component and m the cores that it can
use (Denning & Buzen 1978, "The Operational Analysis of Queueing Network Models"). Queues grow long before this bound.
A run of `crossover capacity` measures which share of the bound a rung holds; the plan is scaled by that share.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import RenderableType
from scipy.optimize import nnls

from analysis import capacity
from analysis.costs import components
from analysis.findings import SEED
from analysis.layout import Sheet, page
from analysis.prediction import ALIKE
from analysis.runs import Run, UnusableRun, differences, is_worker, open_run, read_manifest
from analysis.statistics import ROUNDS_MIN, Floats, Interval
from analysis.validity import judge
from loadtests.format import Manifest

DRAWS = 1_000
NEAR = 0.5  # of the highest rate that held: far below it an operation takes more CPU than it would there
MACHINE = "this machine"
GENERATOR, APP, PROJECTOR = "generator", "app", "projector"


class Servers(NamedTuple):
    """What is planned; a process of ours, and a server of `one_core`, can use one core each."""

    app: int = 1
    replicas: int = 0  # of the store that answers the reads
    partitions: int = 1  # of the projector
    cores: int = 2  # a machine
    one_core: frozenset[str] = frozenset()  # components that run on one core, by name


class Bound(NamedTuple):
    """`demand_us`: CPU µs an operation, measured; `per_s`: the operations a second it allows, computed."""

    target: str
    component: str
    demand_us: float
    servers: str
    per_s: float
    interval: Interval


class Held(NamedTuple):
    """What a run of capacity measured of a rung: the highest rate that met its targets."""

    per_s: float
    goal: str
    run: str


def plan(folder: str | Path, read_share_pct: float, servers: Servers) -> list[Bound]:
    """The bounds of every target whose CPU was measured, the tightest of each first; raises UnusableRun."""
    run, slices = measured(folder)
    here = int(run.manifest.fingerprint.machine.get("cores") or servers.cores)
    found = []
    for target in run.targets:
        drawn = demands(run, slices.filter(pl.col("target") == target))
        found += bounds(target, drawn, read_share_pct / 100, servers, here) if drawn else []
    if not found:
        raise UnusableRun(f"{folder} gives no plan: the CPU of its targets was not measured in enough valid rounds.")
    return found


def measured(folder: str | Path) -> tuple[Run, pl.DataFrame]:
    """The slices whose CPU counts; of a run of capacity those trials that held near the highest rate that did."""
    run = open_run(folder)
    if run.manifest.kind == "compare":
        return run, run.slices.filter((pl.col("phase") == "measure") & pl.col("round").is_in(judge(run).good_rounds()))
    if run.manifest.kind == "capacity":
        held = capacity.find(folder).trials.filter((pl.col("outcome") == "held") & (pl.col("phase") != "burst"))
        near = held.filter(pl.col("rate_per_s") >= NEAR * pl.col("rate_per_s").max().over("phase"))
        return run, run.slices.filter(pl.col("slice").is_in(near["slice"].to_list()))
    raise UnusableRun(f"{folder} is a run of kind {run.manifest.kind}: plan needs one of compare or of capacity.")


def held(folder: str | Path, read_share_pct: float, capacities: Iterable[str | Path]) -> dict[str, Held]:
    """By target of a run what runs of capacity held with its rung, its mix at this read share, and its settings."""
    mine, found = read_manifest(Path(folder)), dict[str, Held]()
    for path in capacities:
        manifest = read_manifest(Path(path))
        was, (target,) = manifest.fingerprint, manifest.fingerprint.targets
        if was.read_shares != (read_share_pct,) or not _alike(mine, manifest):
            continue
        measured = capacity.find(path)
        if measured.capacity.held_per_s:
            one = Held(measured.capacity.held_per_s, capacity.goal_text(measured), manifest.run)
            found |= {each.name: one for each in mine.fingerprint.targets if each.rung == target.rung}
    return found


def _alike(one: Manifest, other: Manifest) -> bool:
    """The same workload, size, settings and machine; a run of one rung has fewer servers."""
    differ = differences(one, other)
    servers = (one.fingerprint.servers, other.fingerprint.servers)
    shared = all(servers[0][name] == servers[1][name] for name in servers[0].keys() & servers[1].keys())
    return shared and not differ.keys() & ({*ALIKE, "workload"} - {"servers"})


def bounds(target: str, drawn: dict[str, Floats], share: float, servers: Servers, here: int) -> list[Bound]:
    """The tightest first, then that of the measured machine, which has `here` cores."""
    stores = [name for name in drawn if name not in (APP, GENERATOR) and not is_worker(name)]
    of_reads = max(stores, key=lambda name: float(drawn[name][0, 0]), default=None)  # where a read costs most
    one = {name: share * us[:, 0] + (1 - share) * us[:, 1] for name, us in drawn.items()}  # µs an operation
    found = []
    for name in drawn.keys() - {GENERATOR}:
        cores, what = _capable(name, servers)
        per_s = _per_s(cores, one[name])
        if name == of_reads and servers.replicas:
            # Writes stay on the first; that the replicas repeat them is not counted, which keeps this a bound.
            writes = _per_s(cores, (1 - share) * drawn[name][:, 1])
            per_s = np.minimum(_per_s(cores * (1 + servers.replicas), one[name]), writes)
            what += f" + {servers.replicas} replica{'s' if servers.replicas > 1 else ''}"
        found.append(_bound(target, name, one[name], what, per_s))
    found.sort(key=lambda bound: (bound.per_s, bound.component))
    single, whole = servers._replace(app=1, partitions=1, cores=here), np.sum([*one.values()], axis=0)
    alone = [_per_s(_capable(name, single)[0], us) for name, us in one.items()]
    per_s = np.min([_per_s(here, whole), *alone], axis=0)
    return [*found, _bound(target, MACHINE, whole, f"{here} cores for all", per_s)]


def demands(run: Run, slices: pl.DataFrame) -> dict[str, Floats]:
    """By component µs of a read and of a write; the estimate first, then one row a bootstrap draw over the slices."""
    cpu = run.cpu.pivot("component", index="slice", values="cpu_us", aggregate_function="sum")
    rows = slices.sort("slice").join(cpu, on="slice")
    if rows.height < ROUNDS_MIN:
        return {}
    mix = rows.select("reads", "writes").cast(pl.Float64).to_numpy()
    picks = np.random.default_rng(SEED).integers(0, len(mix), (DRAWS, len(mix)))
    columns = {name: name for name in components(run) if rows[name].sum()} | {GENERATOR: "generator_cpu_us"}
    return {name: _fit(mix, rows[column].fill_null(0).to_numpy(), picks) for name, column in columns.items()}


def _fit(mix: Floats, cpu_us: Floats, picks: NDArray[np.int64]) -> Floats:
    """Non-negative least squares of µs on reads and writes."""
    return np.array([nnls(mix[pick], cpu_us[pick])[0] for pick in [np.arange(len(mix)), *picks]])


def _capable(component: str, servers: Servers) -> tuple[int, str]:
    """Cores that a component can use."""
    ours = {APP: servers.app, PROJECTOR: servers.partitions, GENERATOR: 1}
    if component in ours or is_worker(component):
        return ours.get(component, 1), f"{ours.get(component, 1)} × 1 core"
    return (1, "1 core") if component in servers.one_core else (servers.cores, f"{servers.cores} cores")


def _per_s(cores: float, demand_us: Floats) -> Floats:
    return np.divide(1e6 * cores, demand_us, out=np.full_like(demand_us, np.inf), where=demand_us > 0)


def _bound(target: str, component: str, demand_us: Floats, servers: str, per_s: Floats) -> Bound:
    low, high = np.quantile(per_s[1:], [0.025, 0.975], method="nearest")
    return Bound(target, component, float(demand_us[0]), servers, float(per_s[0]), Interval(float(low), float(high)))


def render(
    folder: str | Path, read_share_pct: float, servers: Servers, capacities: Sequence[str | Path] = ()
) -> RenderableType:
    """`capacities`: runs of capacity that may have measured what is computed here."""
    headings = ["CPU µs per\noperation", "cores", "operations/s\ncomputed", "95% interval", "at the share\nthat held"]
    sheet, answers, last = Sheet(["<target", "<component", *headings], split=4), [], ""
    near = _of_capacity(folder)
    measured = held(folder, read_share_pct, [folder, *capacities] if near else capacities)  # refused before it computes
    found = plan(folder, read_share_pct, servers)
    whole = {bound.target: bound for bound in found if bound.component == MACHINE}
    for bound in found:
        target, component, demand_us, what, per_s, (low, high) = bound
        first, last, machine = target != last, target, component == MACHINE
        real = measured.get(target)
        share = real.per_s / whole[target].per_s if real else None
        if first:
            answers.append(_answer(whole[target], bound, servers, real, most="at most" if near else "about"))
        expected = "" if share is None or np.isinf(per_s) else f"{share * per_s:,.0f}"
        cells = target if first else "", component, f"{demand_us:,.0f}", what, _count(per_s)
        style = "bold" if first else "dim" if machine else ""
        sheet.add(*cells, f"{_count(low)}–{_count(high)}", expected, style=style, last=machine)
    notes = [
        f"Measured: the CPU an operation takes in this run, fitted to {read_share_pct:g}% reads. {_load(folder)}",
        "Computed: all the rest, by the bottleneck law: a core busy all the time, nobody waiting. Queues grow long "
        "before that, and data that grows under load makes reads that add it up dearer.",
        f"“{MACHINE}” is the measured placement: all components and the load generator on its cores. The other rows "
        "give each component a machine of its own.",
    ]
    if capacities and not measured:
        notes.append(
            f"Runs of capacity looked at: {len(capacities)}. None measured a rung of this run with its workload at "
            f"{read_share_pct:g}% reads, with its data size and settings, on its machine."
        )
    if measured:
        notes.append(
            "At the share that held: what a run of `crossover capacity` measured on this machine, and the other rows "
            "in the same proportion to what is computed."
        )
    return page("", sheet, notes=notes, answer="\n".join(answers))


def _answer(whole: Bound, tightest: Bound, servers: Servers, real: Held | None, *, most: str) -> str:
    """Of one target: what is computed for this machine beside what was measured, then what is planned beyond it."""
    interval = f"{_count(whole.interval.low)}–{_count(whole.interval.high)}"
    said = f"{whole.target}: the CPU of this machine allows {most} {_count(whole.per_s)} operations/s [{interval}]. "
    if real is None:
        said += "Not measured beside this run: what of it meets a p95 target, which `crossover capacity` finds."
    else:
        share = f"{100 * real.per_s / whole.per_s:.0f}% of that"
        said += f"Measured: {real.per_s:,.0f}/s, {share}, with {real.goal} (run {real.run})."
    if (servers.app, servers.replicas, servers.partitions) != (1, 0, 1):
        scaled = "" if real is None else f", {tightest.per_s * real.per_s / whole.per_s:,.0f} at the share that held"
        said += f" As planned: {most} {_count(tightest.per_s)}{scaled}; {tightest.component} is the bottleneck."
    return said


def _of_capacity(folder: str | Path) -> bool:
    return read_manifest(Path(folder)).kind == "capacity"


def _load(folder: str | Path) -> str:
    manifest = read_manifest(Path(folder))
    rate = manifest.fingerprint.rate_per_s
    if not rate or _of_capacity(folder):
        return "Its load was near capacity."
    return (
        f"Its load was {rate:,.0f} operations/s, where an operation takes more CPU than near capacity (idle processes "
        "wake up too): a system can hold more than this bound. Plan from a run of `crossover capacity`."
    )


def _count(per_s: float) -> str:
    return "no bound" if np.isinf(per_s) else f"{per_s:,.0f}"
