"""CPU µs per operation, by slice, by component and as per-round log-ratios of two targets."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.runs import Run
from analysis.statistics import Floats


class Cost(NamedTuple):
    """CPU µs per operation of a target at one read share: all of it, and by component."""

    total_us: float
    by_component_us: dict[str, float]

    @property
    def operations_per_core_second(self) -> float:
        return 1e6 / self.total_us


def components(run: Run) -> list[str]:
    """Whatever the run recorded, in the order of the alphabet: the same in every run, table and figure."""
    return sorted(run.cpu["component"].unique())


def slice_costs(run: Run) -> pl.DataFrame:
    """By measured slice: round, restart, read_share_pct, target, operations, reads, writes, cpu_us (null = unknown)."""
    cpu = run.cpu.group_by("slice").agg(pl.col("cpu_us").sum())
    columns = ["slice", "round", "restart", "read_share_pct", "target", "operations", "reads", "writes", "cpu_us"]
    measured = run.slices.filter((pl.col("phase") == "measure") & (pl.col("completed") > 0))
    return measured.join(cpu, on="slice", how="left").rename({"completed": "operations"}).select(columns)


def log_ratios(costs: pl.DataFrame, baseline: str, target: str) -> pl.DataFrame:
    """By round that has both: restart, read_share_pct and log of (CPU per operation of target over baseline)."""
    known = costs.filter(pl.col("cpu_us") > 0).with_columns(cost=pl.col("cpu_us") / pl.col("operations"))
    keys = ["round", "restart", "read_share_pct"]
    base, other = (
        known.filter(pl.col("target") == name).select(*keys, pl.col("cost").alias(side))
        for name, side in ((baseline, "base"), (target, "other"))
    )
    joined = base.join(other, on=keys).with_columns(log_ratio=(pl.col("other") / pl.col("base")).log())
    return joined.sort("round")


def family(costs: pl.DataFrame, baseline: str, target: str, share: float | None) -> tuple[Floats, NDArray[np.int64]]:
    """Log-ratios by round with the start each belongs to, at one read share or over all of them."""
    rows = log_ratios(costs, baseline, target)
    if share is not None:
        rows = rows.filter(pl.col("read_share_pct") == share)
    return rows["log_ratio"].to_numpy().astype(np.float64), rows["restart"].to_numpy().astype(np.int64)


def cost_of(run: Run, costs: pl.DataFrame, share: float, target: str) -> Cost | None:
    """Sums over valid rounds: all CPU over all operations."""
    slices = costs.filter((pl.col("read_share_pct") == share) & (pl.col("target") == target) & (pl.col("cpu_us") > 0))
    operations = int(slices["operations"].sum())
    if not operations:
        return None
    parts = run.cpu.filter(pl.col("slice").is_in(slices["slice"].to_list())).group_by("component")
    found = dict(parts.agg(pl.col("cpu_us").sum()).sort("component").iter_rows())
    return Cost(sum(found.values()) / operations, {name: us / operations for name, us in found.items()})
