"""What a run is to do: the driver's only input, one JSON file, checked before anything starts."""

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from loadtests import workload as workloads
from loadtests.dataset import Size
from loadtests.workload import Workload

WARM_UP_S = {"quick": 3.0, "standard": 10.0, "thorough": 30.0}  # at most, for each target and read share
PROBES = {"quick": 12, "standard": 30, "thorough": 90}  # of staleness, for each target and read share
PROBES_PER_S = 8.0  # few enough that their reads add little to the load
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


class Plan(Struct, frozen=True):
    """`rate_per_s` null: the workload's. `restarts`: after each but the last the driver asks for fresh processes."""

    out: str
    run: str
    targets: tuple[PlannedTarget, ...]
    workload: str
    read_shares: tuple[float, ...]
    rounds: int
    size: PlannedSize
    rate_per_s: float | None = None
    slice_s: float = 0.5
    restarts: int = 1
    seed: int = 1
    fill_over_http: bool = False
    profile: Literal["quick", "standard", "thorough"] = "quick"
    fingerprint: dict[str, Any] = {}
    warm_up_s: float | None = None  # None: the profile's
    probes: int | None = None  # None: the profile's

    @property
    def load(self) -> Workload:
        return workloads.load(self.workload)

    @property
    def rate(self) -> float:
        return self.rate_per_s or self.load.rate_per_s

    @property
    def probes_a_share(self) -> int:
        return PROBES[self.profile] if self.probes is None else self.probes

    @property
    def warm_up_most_s(self) -> float:
        return WARM_UP_S[self.profile] if self.warm_up_s is None else self.warm_up_s

    @property
    def data(self) -> Size:
        return Size(self.size.customers, self.size.products, self.size.orders)


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
    if not plan.read_shares or len(set(plan.read_shares)) != len(plan.read_shares):
        return "it needs at least one read share, each once"
    if plan.rounds < 1 or plan.restarts < 1:
        return "rounds and restarts must be at least 1"
    if not (math.isfinite(plan.slice_s) and 0.05 <= plan.slice_s <= 600):
        return "slice_s must be 0.05 to 600 seconds"
    if not (math.isfinite(rate) and 0 < rate <= 100_000):
        return f"rate_per_s must be above 0 and at most 100,000, not {rate:g}"
    if rate * plan.slice_s < 1:
        return f"at {rate:g} operations a second a slice of {plan.slice_s:g} s would mostly be empty"
    if min(plan.data) < 0:
        return "a size is never negative"
    return None
