"""The cells of a run of costs: each operation by itself, as far as that is possible."""

from collections.abc import Iterable

from loadtests.plan import Cell
from loadtests.workload import READS, WRITES, Workload

COMPANY = {  # what shares a cell with an operation, in percent; an operation not named here is alone
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
    checks = [mix_of(workload) for workload in {workload.name: workload for workload in mixes}.values()]
    return (*cells, *(mix for mix in checks if set(mix.shares or ()) <= names))


def mix_of(workload: Workload) -> Cell:
    """A workload's shares, to which no cost is fitted: they show whether the costs of operations add up to a mix's."""
    parts = ((workload.reads, workload.read_share_pct), (workload.writes, 100 - workload.read_share_pct))
    shares = {name: share * part / 100 for shares, part in parts for name, share in shares.items() if share * part}
    return Cell(workload.read_share_pct, f"mix {workload.name}", shares)
