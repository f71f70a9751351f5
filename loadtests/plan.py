"""What a run is to do: the driver's only input, one JSON file, checked before anything starts."""

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from loadtests import workload as workloads
from loadtests.dataset import Size
from loadtests.trials import Goal
from loadtests.workload import READS, WRITES, Workload

WARM_UP_S = {"quick": 3.0, "standard": 10.0, "thorough": 10.0}  # at most, for each target, after each start
MIX_WARM_UP_S = 2.0  # at most, for each further read share of a start: processes that are warm meet another mix
PROBES = {"quick": 12, "standard": 30, "thorough": 90}  # of staleness, for each target and read share
PROBES_PER_S = 8.0  # few enough that their reads add little to the load
COMPANY = {  # what shares a cell with an operation, in per cent; an operation not named here is alone
    "top_products": {"order": 90.0},
    "daily_sales": {"order": 50.0},
    "search": {"order": 70.0},
    "place": {"order": 67.0},
    "pay": {"order": 60.0, "place": 20.0},
    "ship": {"order": 50.0, "place": 17.0, "pay": 16.0},
    "cancel": {"order": 60.0, "place": 20.0},
    "rename": {"order": 67.0},
    "reprice": {"order": 67.0},
    "deliver": {"order": 67.0},
}
WATCHED = 500  # customers, and products, whose totals the ledger follows


class BadPlan(ValueError):
    """One clear sentence about what cannot be run and what to do."""


class PlannedTarget(Struct, frozen=True):
    """`processes` gives the root pids by component; without them a target has no CPU figures."""

    name: str
    url: str
    rung: str = "external"
    parent: str | None = None
    token: str | None = None
    processes: dict[str, list[int]] = {}


class PlannedSize(Struct, frozen=True):
    name: str
    customers: int
    products: int
    orders: int


class Cell(Struct, frozen=True):
    """What a slice asks: the workload at a read share or, where `shares` (in per cent) are given, these operations."""

    read_share_pct: float
    name: str | None = None
    shares: dict[str, float] | None = None


class Plan(Struct, frozen=True):
    """`rate_per_s` null: the workload's. `restarts`: after each but the last the driver asks for fresh processes.

    `workload`: a name, a path, or the workload itself. `resume`: go on with the stopped run that is in `out`.
    """

    out: str
    run: str
    targets: tuple[PlannedTarget, ...]
    workload: str | Workload
    read_shares: tuple[float, ...]
    rounds: int
    size: PlannedSize
    rate_per_s: float | None = None
    slice_s: float = 0.5
    restarts: int = 1
    seed: int = 1
    fill_over_http: bool = False
    resume: bool = False
    profile: Literal["quick", "standard", "thorough"] = "quick"
    fingerprint: dict[str, Any] = {}
    warm_up_s: float | None = None  # None: the profile's
    probes: int | None = None  # None: the profile's
    kind: Literal["compare", "costs", "capacity", "gate"] = "compare"
    goal: Goal | None = None  # of a run of kind capacity, which has one target and one read share
    operations: tuple[str, ...] = ()  # whose costs are asked; none: those of the workload

    @property
    def load(self) -> Workload:
        return self.workload if isinstance(self.workload, Workload) else workloads.load(self.workload)

    @property
    def blocks(self) -> list[list[Cell]]:
        """Cells that are measured together, in random order within each round of them, after a warm-up of their own."""
        if self.kind != "costs":
            return [[Cell(share)] for share in self.read_shares]
        cells = cells_of_operations(set(self.operations or self.asked))
        mixed = {workload.name: workload for workload in (*map(workloads.load, workloads.names()), self.load)}
        mixes = [mix_of(workload) for workload in mixed.values()]
        return [cells + [mix for mix in mixes if set(mix.shares or ()) <= {cell.name for cell in cells}]]

    @property
    def asked(self) -> frozenset[str]:
        """The operations that the load may ask for."""
        mixed = self.load
        return frozenset(name for shares in (mixed.reads, mixed.writes) for name, share in shares.items() if share)

    @property
    def has_strangers(self) -> bool:
        """Whether a target is not one of ours: it may have the load's operations alone."""
        return any(target.rung == "external" for target in self.targets)

    @property
    def rate(self) -> float:
        return self.rate_per_s or self.load.rate_per_s

    @property
    def probes_a_start(self) -> int:
        """For each target and read share."""
        return math.ceil((PROBES[self.profile] if self.probes is None else self.probes) / self.restarts)

    @property
    def warm_up_most_s(self) -> float:
        return WARM_UP_S[self.profile] if self.warm_up_s is None else self.warm_up_s

    @property
    def data(self) -> Size:
        return Size(self.size.customers, self.size.products, self.size.orders)


def cells_of_operations(names: set[str]) -> list[Cell]:
    """As many cells as unknown costs: each operation in one of its own, and one in which nothing is asked.

    All cells have one rate, because the cost of an operation depends on it; a heavy read has light ones beside it, so
    that no cell saturates its target. So has a write: what carries events takes those that come close together at
    once, which makes a write cheaper the more of them there are. A transition has the makers of its orders.
    """
    for _ in COMPANY:  # company may want company
        names = names | {other for name in names for other in COMPANY.get(name, ())}
    cells = [Cell(0, "idle", {})]
    for name in (*READS, *WRITES):
        if name in names:
            company = COMPANY.get(name, {})
            shares = company | {name: 100 - sum(company.values())}
            read_share_pct = sum(share for other, share in shares.items() if other in READS)
            cells.append(Cell(read_share_pct, name, shares))
    return cells


def mix_of(workload: Workload) -> Cell:
    """A workload's shares, to which no cost is fitted: they show whether the costs of operations add up to a mix's."""
    parts = ((workload.reads, workload.read_share_pct), (workload.writes, 100 - workload.read_share_pct))
    shares = {name: share * part / 100 for shares, part in parts for name, share in shares.items() if share * part}
    return Cell(workload.read_share_pct, f"mix {workload.name}", shares)


def read(path: str) -> Plan:
    try:
        plan = msgspec.json.decode(Path(path).read_bytes(), type=Plan)
    except OSError as error:
        raise BadPlan(f"The plan {path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise BadPlan(f"The plan {path} does not fit: {error}.") from error
    try:
        for share in plan.read_shares:
            workloads.check_read_share(share)
        workload = plan.load
    except workloads.WorkloadError as error:
        raise BadPlan(str(error)) from error
    if problem := _problem(plan):
        raise BadPlan(f"The plan {path} does not fit: {problem}.")
    assert workload.name, "a loaded workload has a name"
    return plan


def _problem(plan: Plan) -> str | None:
    names = [target.name for target in plan.targets]
    rate = plan.rate
    if not names:
        return "it names no target"
    if len(set(names)) != len(names):
        return "two targets have the same name"
    if plan.kind == "costs" and (unknown := set(plan.operations) - {*READS, *WRITES}):
        return f"there is no operation {min(unknown)!r}, only {', '.join((*READS, *WRITES))}"
    if (plan.kind != "costs" and not plan.read_shares) or len(set(plan.read_shares)) != len(plan.read_shares):
        return "it needs at least one read share, each once"
    if plan.rounds < 1 or plan.restarts < 1:
        return "rounds and restarts must be at least 1"
    if not (math.isfinite(plan.slice_s) and 0.05 <= plan.slice_s <= 600):
        return "slice_s must be 0.05 to 600 seconds"
    if not (math.isfinite(rate) and 0 < rate <= 100_000):
        return f"rate_per_s must be above 0 and at most 100,000, not {rate:g}"
    if rate * plan.slice_s < 1:
        return f"at {rate:g} operations a second a slice of {plan.slice_s:g} s would mostly be empty"
    if plan.kind == "capacity" and (plan.goal is None or len(plan.targets) != 1 or len(plan.read_shares) != 1):
        return "a run of kind capacity has a goal, one target and one read share"
    if min(plan.data) < 0:
        return "a size is never negative"
    return None
