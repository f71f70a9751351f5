"""The plan of a run: frozen, made once from the options, stored whole in the manifest, and read back to resume."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from loadtests.workload import READS, WRITES, Workload

PROBES_PER_S = 8.0  # few enough that their reads add little to the load
MIX_WARM_UP_S = 2.0  # at most, for each further block of a start: processes that are warm meet another mix


class BadPlan(ValueError):
    """One clear sentence about what cannot be run and what to do."""


class Cell(Struct, frozen=True):
    """What a slice asks: the workload at a read share or, where `shares` (in percent) are given, these operations."""

    read_share_pct: float
    name: str | None = None
    shares: dict[str, float] | None = None


class Goal(Struct, frozen=True):
    """95% of operations take at most `p95_ms` from scheduled start, 95% of writes are visible after `freshness_ms`."""

    p95_ms: float
    freshness_ms: float


class DataSize(Struct, frozen=True):
    name: str
    customers: int
    products: int
    orders: int


class Plan(Struct, frozen=True, kw_only=True):
    """Nothing in it is secret, and nothing in it differs between the sessions of a run.

    `kind` is the command it belongs to: "compare", "costs", "capacity" or "gate". The cells of a block are measured
    together, in random order within each round of them, after a warm-up of their own.
    """

    kind: str
    run: str
    rungs: dict[str, str] = {}  # name of a target → its rung
    external: dict[str, str] = {}  # name of an external target → its URL
    revisions: dict[str, str] = {}  # of a gate: name of a target → its commit
    workload: Workload
    blocks: tuple[tuple[Cell, ...], ...]
    rate_per_s: float
    size: DataSize
    fill_over_http: bool = False
    seed: int = 1
    durability: str = "full"
    clients: str = "idiomatic"  # the level of the client libraries of all our rungs, or "lean"
    profile: str = "quick"
    rounds: int  # of each start
    restarts: int = 1  # starts, the first included
    slice_s: float = 0.5
    warm_up_s: float = 10.0  # at most, for each target, after each start
    probes: int = 0  # of staleness, for each target and block
    goal: Goal | None = None  # of a run of kind capacity, which has one target and one cell

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise BadPlan(problem)

    @property
    def read_shares(self) -> tuple[float, ...]:
        """Those at which the workload is measured as a whole."""
        return tuple(cell.read_share_pct for block in self.blocks for cell in block if cell.name is None)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Those that measure single operations."""
        return tuple(cell for block in self.blocks for cell in block if cell.name is not None)

    @property
    def probes_a_start(self) -> int:
        return math.ceil(self.probes / self.restarts)


class Block(NamedTuple):
    """What is missing of one start of a block: rounds of each cell, and whether its staleness."""

    cells: Sequence[Cell]
    rounds: list[int]
    probing: bool


def missing(
    plan: Plan, done: Counter[tuple[str, str | None, float]], start: int, cells: Sequence[Cell]
) -> Block | None:
    """What a start of a block lacks; what is on disk counts for the early starts."""
    counts = [done["measure", cell.name, cell.read_share_pct] for cell in cells]
    rounds = [min(plan.rounds, max(0, (start + 1) * plan.rounds - count)) for count in counts]
    probing = bool(plan.probes_a_start) and done["staleness", cells[0].name, cells[0].read_share_pct] <= start
    return Block(cells, rounds, probing) if probing or any(rounds) else None


class Endpoint(Struct, frozen=True):
    """Where a target listens; `processes` are the root pids by component, without which it has no CPU figures."""

    name: str
    url: str
    rung: str = "external"
    parent: str | None = None
    token: str | None = None
    processes: dict[str, list[int]] = {}

    def __repr__(self) -> str:
        """Without the token."""
        return f"Endpoint({self.name!r}, {self.url!r})"


class Job(Struct, frozen=True, kw_only=True):
    """The driver's only input, one JSON file: the plan, and what differs by session. It may hold a token."""

    plan: Plan
    out: str
    endpoints: tuple[Endpoint, ...]
    facts: dict[str, Any] = {}  # about machine, code and servers, for the fingerprint
    resume: bool = False  # go on with the stopped run that is in `out`


COMPANY = {  # in a run of costs: what shares a cell with an operation, in percent; an operation not named here is alone
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


def cells_of(operations: Iterable[str], mixes: Iterable[Workload] = ()) -> tuple[Cell, ...]:
    """As many cells as unknown costs: each operation in one of its own, one idle; and as checks those whole workloads.

    All cells have one rate, because the cost of an operation depends on it; a heavy read has light ones beside it, so
    that no cell saturates its target. So has a write: a projector applies events that come close together in one
    batch, which makes a write cheaper the more of them there are. A transition has the makers of its orders.
    """
    names = set(operations)
    for _ in COMPANY:  # company may want company
        names |= {other for name in names for other in COMPANY.get(name, ())}
    cells = [Cell(0, "idle", {})]
    for name in (*READS, *WRITES):
        if name in names:
            company = COMPANY.get(name, {})
            shares = company | {name: 100 - sum(company.values())}
            cells.append(Cell(sum(share for other, share in shares.items() if other in READS), name, shares))
    checks: list[Cell] = []
    for mix in map(mix_of, {workload.name: workload for workload in mixes}.values()):
        if set(mix.shares or ()) <= names and all(mix.shares != other.shares for other in checks):
            checks.append(mix)  # once, as some workloads differ in their keys alone
    return (*cells, *checks)


def mix_of(workload: Workload) -> Cell:
    """A workload's shares, to which no cost is fitted: they show whether the costs of operations add up to a mix's."""
    parts = ((workload.reads, workload.read_share_pct), (workload.writes, 100 - workload.read_share_pct))
    shares = {name: share * part / 100 for shares, part in parts for name, share in shares.items() if share * part}
    return Cell(workload.read_share_pct, f"mix {workload.name}", shares)


def _problem(plan: Plan) -> str | None:
    if len(set(plan.read_shares)) != len(plan.read_shares) or not all(plan.blocks) or not plan.blocks:
        return "Give at least one read share, each once: for instance --read-shares 50,80,95."
    if plan.rounds < 1 or plan.restarts < 1:
        return "A run has at least one round and one start."
    if not 0.05 <= plan.slice_s <= 600:
        return f"A slice takes 0.05 to 600 seconds, not {plan.slice_s:g}."
    least = 2 / plan.slice_s  # fewer, and most slices would be empty
    if not (math.isfinite(plan.rate_per_s) and least <= plan.rate_per_s <= 100_000):
        return f"--rate is {least:g} to 100,000 operations a second, not {plan.rate_per_s:g}."
    if plan.goal and (len(plan.rungs) + len(plan.external) != 1 or len(plan.read_shares) != 1):
        return "A run of kind capacity has one target and one read share."
    return None


def read_job(path: str) -> Job:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Job)
    except OSError as error:
        raise BadPlan(f"The job {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadPlan(f"The job {path} does not fit: {error}") from error
