"""The read share above which a target uses less CPU than the baseline, with a bootstrap interval over rounds.

Each target's CPU is fitted as c_read·reads + c_write·writes; the crossover is where the totals of two targets meet.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import statistics
from analysis.costs import equations, pairs, solve
from analysis.statistics import ROUNDS_MIN, Floats, Interval, NotComputable

RESAMPLES = 10_000
AGREEMENT_MIN = 0.975
KINDS = {"above": "above some read share", "below": "below some read share", "always": "always", "never": "never"}

# "above": the target uses less above the crossover; "below": below it.
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
    reason: str = ""
    share_pct: float | None = None  # where the fitted totals meet, if they meet between 0 and 100%
    interval_pct: Interval | None = None
    baseline: Costs | None = None
    target: Costs | None = None
    agreement: dict[str, float] = {}  # the share of bootstrap draws that give each answer
    checks: tuple[Check, ...] = ()
    measured_pct: Interval | None = None  # the lowest and highest read share that was measured

    def withdrawn(self, reason: str | None) -> "Crossover":
        return self if reason is None else self._replace(answer="inconclusive", reason=reason)

    @property
    def outside_measured(self) -> bool:
        """True when the crossover lies where nothing was measured: the fit is extrapolated to it."""
        if self.share_pct is None or self.measured_pct is None:
            return False
        return not self.measured_pct.low <= self.share_pct <= self.measured_pct.high


def find(rounds: pl.DataFrame, baseline: str, target: str, *, seed: int, start_sd: float = 0.0) -> Crossover:
    """`rounds` is what slice_costs() gives.

    `start_sd` is what a start adds to the log-ratio of all costs: without it a single start would look too certain.
    """
    try:
        return _find(pairs(rounds, baseline, target), seed, start_sd)
    except NotComputable as why:
        return Crossover("inconclusive", str(why))


def predicted_ratio(baseline: Costs, target: Costs, read_share: Floats) -> Floats:
    """Cost of the target over cost of the baseline at read shares given as 0..1."""
    other, base = (read_share * cost.read_us + (1 - read_share) * cost.write_us for cost in (target, baseline))
    ratio: Floats = other / base
    return ratio


def _find(pair: pl.DataFrame, seed: int, start_sd: float) -> Crossover:
    shares = sorted(pair["read_share_pct"].unique())
    if len(shares) < 2:
        raise NotComputable("the crossover needs rounds at two read shares at least")
    fewest = min(pair.filter(pl.col("read_share_pct") == share).height for share in shares)
    if fewest < ROUNDS_MIN:
        raise NotComputable(f"{fewest} valid rounds at a read share, an interval needs {ROUNDS_MIN}")
    strata = pair.select(pl.struct("read_share_pct", "restart").rank("dense")).to_series().to_numpy().astype(np.int64)
    rng, sums = np.random.default_rng(seed), []
    for side in ("base", "other"):  # a round is a block; each row is divided by the median CPU of its read share
        x, cpu = pair.select(f"reads_{side}", f"writes_{side}").to_numpy(), pl.col(f"cpu_us_{side}")
        used, scale = pair.select(cpu, scale=cpu.median().over("read_share_pct")).to_numpy().T
        sums.append(equations(x, used, scale, np.arange(pair.height)))
    base, other = (solve(each)[0] for each in sums)
    times = statistics.multiplicities(statistics.resample_indices(strata, RESAMPLES, rng), pair.height)
    drawn_base, drawn_other = (solve(each, times) for each in sums)
    drawn_other *= np.exp(rng.normal(0, start_sd / math.sqrt(pair["restart"].n_unique()), (RESAMPLES, 1)))
    tail = statistics.expanded_tail(pair.height, len(np.unique(strata)))
    costs = Costs(*map(float, base)), Costs(*map(float, other))
    found = decide(base - other, drawn_base - drawn_other, tail)._replace(
        baseline=costs[0],
        target=costs[1],
        checks=_checks(pair, *costs),
        measured_pct=Interval(float(shares[0]), float(shares[-1])),
    )
    return found.withdrawn("the fit gives an operation a cost below zero" if min(*base, *other) <= 0 else None)


def decide(saving: Floats, drawn: Floats, tail: float) -> Crossover:
    """`saving`: µs saved by the target on a read and on a write; `drawn`: the same for each bootstrap draw.

    The answer stands when the draws that give another one are fewer than one tail of a 95% interval.
    """
    kinds, answer = _kinds(drawn), str(_kinds(saving[None, :])[0])
    agreement = {kind: float(np.mean(kinds == kind)) for kind in KINDS}
    share, interval = None, None
    if answer in ("above", "below"):
        share = 100 * float(_meeting(saving[None, :])[0])
        interval = Interval(*(100 * end for end in statistics.quantiles(_clipped(drawn, kinds, answer), tail)))
    found = Crossover(answer, "", share, interval, agreement=agreement)  # type: ignore[arg-type]
    said = ", ".join(f"{100 * part:.0f}% say {KINDS[kind]}" for kind, part in agreement.items() if part >= 0.005)
    return found.withdrawn(f"the resampled rounds disagree ({said})" if agreement[answer] < AGREEMENT_MIN else None)


def _kinds(saving: Floats) -> NDArray[np.str_]:
    read, write = saving[:, 0] > 0, saving[:, 1] > 0
    return np.select([read & write, read & ~write, ~read & write], ["always", "above", "below"], "never")


def _meeting(saving: Floats) -> Floats:
    """The read share (0..1) at which share·saving_read + (1−share)·saving_write is zero."""
    share: Floats = saving[:, 1] / (saving[:, 1] - saving[:, 0])
    return share


def _clipped(drawn: Floats, kinds: NDArray[np.str_], answer: str) -> Floats:
    """Meeting points in 0..1; a draw in which the totals never meet stands at the end it leans to."""
    always, never = (0.0, 1.0) if answer == "above" else (1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.clip(_meeting(drawn), 0, 1)
    return np.select([kinds == "always", kinds == "never"], [always, never], inner)


def _checks(pair: pl.DataFrame, baseline: Costs, target: Costs) -> tuple[Check, ...]:
    checks = []
    for (share,), rows in pair.group_by("read_share_pct", maintain_order=True):
        reads, writes = float(rows["reads_base"].sum()), float(rows["writes_base"].sum())
        predicted = float(predicted_ratio(baseline, target, np.array([reads / (reads + writes)]))[0])
        other, base = (
            rows[f"cpu_us_{side}"] / (rows[f"reads_{side}"] + rows[f"writes_{side}"]) for side in ("other", "base")
        )
        measured = math.exp(statistics.hodges_lehmann((other / base).log().to_numpy()))
        checks.append(Check(float(str(share)), predicted, measured))
    return tuple(sorted(checks))
