"""The read share from which a target needs less CPU than the baseline, with a bootstrap interval over rounds.

Each target's CPU is fitted as c_read·reads + c_write·writes; the crossover is where the totals of two targets meet.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from analysis.statistics import (
    ROUNDS_MIN,
    Floats,
    Interval,
    NotComputable,
    expanded_tail,
    hodges_lehmann,
    resample_indices,
)

RESAMPLES = 10_000
AGREEMENT_MIN = 0.975
SAYS = {
    "above": "say from some read share on",
    "below": "say up to some read share",
    "always": "say always",
    "never": "say never",
}

# "above": the target needs less from the crossover on; "below": up to it.
# "equal": no difference that matters at any measured read share, so there is nothing to cross.
Answer = Literal["above", "below", "always", "never", "equal", "inconclusive"]


class Costs(NamedTuple):
    """CPU µs of one read and of one write of a target in this mix."""

    read_us: float
    write_us: float


class Check(NamedTuple):
    """The ratio that the fit predicts at a read share, beside the measured one."""

    read_share_pct: float
    predicted: float
    measured: float


class Crossover(NamedTuple):
    answer: Answer
    reason: str
    share_pct: float | None = None  # where the fitted totals meet, if they meet between 0 and 100 %
    interval_pct: Interval | None = None
    baseline: Costs | None = None
    target: Costs | None = None
    agreement: dict[str, float] = {}  # the share of bootstrap draws that give each answer
    checks: tuple[Check, ...] = ()
    measured_pct: Interval | None = None  # the lowest and highest read share that was measured

    @property
    def outside_measured(self) -> bool:
        """True when the crossover lies where nothing was measured: the fit is drawn out to it."""
        if self.share_pct is None or self.measured_pct is None:
            return False
        return not self.measured_pct.low <= self.share_pct <= self.measured_pct.high


def find(rounds: pl.DataFrame, baseline: str, target: str, *, seed: int, start_sd: float = 0.0) -> Crossover:
    """`rounds` has one row a slice: round, restart, read_share_pct, target, reads, writes, cpu_us.

    `start_sd` is what a start adds to the log-ratio of all costs: without it a single start would look too certain.
    """
    try:
        return _find(rounds, baseline, target, seed, start_sd)
    except NotComputable as why:
        return Crossover("inconclusive", str(why))


def predicted_ratio(baseline: Costs, target: Costs, read_share: Floats) -> Floats:
    """Cost of the target over cost of the baseline at read shares given as 0..1."""
    ratio: Floats = (read_share * target.read_us + (1 - read_share) * target.write_us) / (
        read_share * baseline.read_us + (1 - read_share) * baseline.write_us
    )
    return ratio


def _find(rounds: pl.DataFrame, baseline: str, target: str, seed: int, start_sd: float) -> Crossover:
    pair = _pairs(rounds, baseline, target)
    shares = sorted(pair["read_share_pct"].unique())
    if len(shares) < 2:
        raise NotComputable("the crossover needs rounds at two read shares at least")
    fewest = min(pair.filter(pl.col("read_share_pct") == share).height for share in shares)
    if fewest < ROUNDS_MIN:
        raise NotComputable(f"{fewest} valid rounds at a read share, an interval needs {ROUNDS_MIN}")
    strata = pair.select(pl.struct("read_share_pct", "restart").rank("dense")).to_series().to_numpy().astype(np.int64)
    equations = [_normal_equations(pair, side) for side in ("base", "other")]
    everything = np.ones((1, pair.height))
    base, other = (_solve(everything @ each)[0] for each in equations)
    tail = expanded_tail(pair.height, len(np.unique(strata)))
    rng = np.random.default_rng(seed)
    picks = resample_indices(strata, RESAMPLES, rng)
    weights = np.stack([np.bincount(row, minlength=pair.height) for row in picks]).astype(np.float64)
    drawn_base, drawn_other = [_solve(weights @ each) for each in equations]
    drawn_other *= np.exp(rng.normal(0, start_sd / math.sqrt(pair["restart"].n_unique()), (RESAMPLES, 1)))
    found = decide(base - other, drawn_base - drawn_other, tail)
    costs = Costs(*map(float, base)), Costs(*map(float, other))
    found = found._replace(
        baseline=costs[0],
        target=costs[1],
        checks=_checks(pair, *costs),
        measured_pct=Interval(float(shares[0]), float(shares[-1])),
    )
    if min(*costs[0], *costs[1]) <= 0:
        return found._replace(answer="inconclusive", reason="the fit gives an operation a cost below zero")
    return found


def _pairs(rounds: pl.DataFrame, baseline: str, target: str) -> pl.DataFrame:
    """One row a round with both targets side by side: reads, writes and cpu_us with suffixes _base and _other."""
    keys = ["round", "restart", "read_share_pct"]
    sides = [
        rounds.filter(pl.col("target") == name).select(
            *keys,
            *[pl.col(column).cast(pl.Float64).alias(f"{column}_{side}") for column in ("reads", "writes", "cpu_us")],
        )
        for name, side in ((baseline, "base"), (target, "other"))
    ]
    return sides[0].join(sides[1], on=keys, how="inner").sort("round")


def _normal_equations(pair: pl.DataFrame, side: str) -> Floats:
    """By round the sums of least squares (Gauss 1809): reads², reads·writes, writes², reads·cpu, writes·cpu.

    Noise grows with the cost, so each row is divided by the median CPU of its read share: relative errors are squared.
    """
    scale = pl.col(f"cpu_us_{side}").median().over("read_share_pct")
    reads, writes, cpu = (pl.col(f"{name}_{side}") / scale for name in ("reads", "writes", "cpu_us"))
    return (
        pair.select(a=reads * reads, b=reads * writes, c=writes * writes, d=reads * cpu, e=writes * cpu)
        .to_numpy()
        .astype(np.float64)
    )


def _solve(sums: Floats) -> Floats:
    """Costs (read, write) in µs for each row of summed normal equations."""
    a, b, c, d, e = sums.T
    determinant = a * c - b * b
    if np.any(determinant <= 1e-12 * a * c):
        raise NotComputable("reads and writes came in one proportion: their costs cannot be told apart")
    return np.stack([(c * d - b * e) / determinant, (a * e - b * d) / determinant], axis=1)


def decide(saving: Floats, drawn: Floats, tail: float) -> Crossover:
    """`saving`: µs saved by the target on a read and on a write; `drawn`: the same for each bootstrap draw.

    The answer stands when the draws that give another one are fewer than one tail of a 95 % interval.
    """
    kinds = _kinds(drawn)
    agreement = {kind: float(np.mean(kinds == kind)) for kind in ("above", "below", "always", "never")}
    (answer,) = _kinds(saving[None, :])
    meets = answer in ("above", "below")
    share = 100 * float(_meeting(saving[None, :])[0]) if meets else None
    interval = None
    if meets:
        low, high = np.quantile(_clipped(drawn, str(answer)), [tail, 1 - tail])
        interval = Interval(100 * float(low), 100 * float(high))
    if agreement[str(answer)] < AGREEMENT_MIN:
        says = [f"{100 * part:.0f} % {SAYS[kind]}" for kind, part in agreement.items() if part >= 0.005]
        why = f"the resampled rounds disagree ({', '.join(says)})"
        return Crossover("inconclusive", why, share, interval, None, None, agreement)
    return Crossover(str(answer), "", share, interval, None, None, agreement)  # type: ignore[arg-type]


def _kinds(saving: Floats) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    read, write = saving[:, 0] > 0, saving[:, 1] > 0
    return np.select([read & write, read & ~write, ~read & write], ["always", "above", "below"], "never")


def _meeting(saving: Floats) -> Floats:
    """The read share (0..1) at which share·saving_read + (1−share)·saving_write is zero."""
    share: Floats = saving[:, 1] / (saving[:, 1] - saving[:, 0])
    return share


def _clipped(drawn: Floats, answer: str) -> Floats:
    """Meeting points in 0..1; a draw in which the totals never meet stands at the end it leans to."""
    kinds = _kinds(drawn)
    first, last = (0.0, 1.0) if answer == "above" else (1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.clip(_meeting(drawn), 0, 1)
    return np.select([kinds == "always", kinds == "never"], [first, last], inner)


def _checks(pair: pl.DataFrame, baseline: Costs, target: Costs) -> tuple[Check, ...]:
    checks = []
    for (share,), rows in pair.group_by("read_share_pct", maintain_order=True):
        reads, writes = float(rows["reads_base"].sum()), float(rows["writes_base"].sum())
        actual = np.array([reads / (reads + writes)])
        cost = [rows[f"cpu_us_{side}"] / (rows[f"reads_{side}"] + rows[f"writes_{side}"]) for side in ("other", "base")]
        measured = math.exp(hodges_lehmann((cost[0] / cost[1]).log().to_numpy()))
        predicted = float(predicted_ratio(baseline, target, actual)[0])
        checks.append(Check(float(str(share)), predicted, measured))
    return tuple(sorted(checks))
