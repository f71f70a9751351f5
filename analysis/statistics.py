"""Estimates, intervals, tests and verdicts over per-round log-ratios.

The unit of analysis is the round, and above it the start of the processes (Kalibera & Jones 2013, "Rigorous
benchmarking in reasonable time"): requests of one round share its noise, rounds of one start share its memory layout
(Mytkowicz et al. 2009), so neither are treated as independent.

Quantiles and the signed-rank test are SciPy's. Ours, because SciPy has none: the bootstrap stratified by restart and
widened for few rounds (scipy.stats.bootstrap resamples one unstratified sample and widens nothing), the search that
makes it affordable for hundreds of rounds, and Holm's correction.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.resampled_medians import quantile

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]

STARTS_MIN = 4  # from here on the spread between starts is measured; below it only the recorded one is known
ROUNDS_MIN = 5  # below this a bootstrap over rounds says nothing
SAMPLES_MIN = {0.95: 60, 0.99: 300}  # a percentile of fewer rests on one or two of them
RESAMPLES = 5_000
CONTAINS_1 = "the interval contains 1"
ALPHA = 0.05
Z = float(stats.norm.ppf(1 - ALPHA / 2))
Z_POWER = float(stats.norm.ppf(0.80))


class NotComputable(Exception):
    """The data do not allow this statistic; the message says why."""


class Interval(NamedTuple):
    low: float
    high: float


class Comparison(NamedTuple):
    """A target against the baseline at one read share; `ratio` below 1 means the target uses less CPU."""

    rounds: int
    ratio: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict = "inconclusive"
    reason: str = ""
    detectable_pct: float | None = None  # smallest difference this run could have shown with 80% power
    rounds_needed: int | None = None  # to detect a difference of delta


def hodges_lehmann(values: Floats) -> float:
    """The median of all pairwise means, pairs with itself included (Hodges & Lehmann 1963)."""
    values = _finite(values)
    left, right = np.triu_indices(len(values))
    return float(np.median((values[left] + values[right]) / 2))


def bootstrap_interval(values: Floats, strata: NDArray[np.int64], *, seed: int) -> Interval:
    """95% bootstrap interval of the Hodges–Lehmann estimate, resampling rounds within each restart.

    Percentile bootstrap (Efron 1979) with the quantiles widened for few rounds (Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", the expanded percentile interval): without it 8 rounds cover about 90%, not 95%.
    """
    values = _finite(values)
    if len(values) < ROUNDS_MIN:
        raise NotComputable(f"{len(values)} valid rounds, an interval needs {ROUNDS_MIN}")
    tail = expanded_tail(len(strata), len(np.unique(strata)))
    picks = resample_indices(strata, RESAMPLES, np.random.default_rng(seed))
    drawn = multiplicities(picks, len(values)).astype(np.int32)
    return Interval(quantile(values, drawn, tail), quantile(values, drawn, 1 - tail))


def resample_indices(strata: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`resamples` rows of indices, each drawn with replacement inside each stratum (stratified bootstrap)."""
    picks = np.empty((resamples, len(strata)), dtype=np.int64)
    for stratum in np.unique(strata):
        (members,) = np.nonzero(strata == stratum)
        picks[:, members] = members[rng.integers(0, len(members), size=(resamples, len(members)))]
    return picks


def multiplicities(picks: NDArray[np.int64], count: int) -> Floats:
    """How often each row of picks drew each of `count` indices."""
    places = picks + count * np.arange(len(picks))[:, None]
    return np.bincount(places.ravel(), minlength=count * len(picks)).reshape(-1, count).astype(np.float64)


def quantiles(draws: Floats, tail: float = ALPHA / 2) -> Interval:
    """The middle of bootstrap draws, cut by `tail` at each end."""
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))


def expanded_tail(rounds: int, strata: int) -> float:
    """The share to cut at each end: Φ(−√(n/(n−k))·t), t the Student quantile with n−k degrees of freedom."""
    freedom = rounds - strata
    if freedom < 3:
        raise NotComputable(f"{rounds} rounds over {strata} restarts are too few for an interval")
    return float(stats.norm.sf(math.sqrt(rounds / freedom) * stats.t.ppf(1 - ALPHA / 2, freedom)))


def sign_flip_p(values: Floats) -> float:
    """Two-sided p that the rounds are symmetric about zero: a permutation test that flips signs (Fisher 1935).

    The statistic is the signed-rank sum (Wilcoxon 1945), whose inversion is the Hodges–Lehmann estimate: exact up to
    50 rounds without ties, by the normal approximation above.
    """
    values = _finite(values)
    return float(stats.wilcoxon(values, zero_method="pratt").pvalue) if values.any() else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for the whole announced family, in the order given (Holm 1979, step-down)."""
    order = np.argsort(ps, kind="stable")
    scaled = np.minimum(1.0, np.array(ps)[order] * np.arange(len(ps), 0, -1))
    adjusted = np.empty(len(ps))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(p) for p in adjusted]


def interval_over_starts(values: Floats, starts: NDArray[np.int64], *, start_sd: float, seed: int) -> Interval:
    """95% interval of the log-ratio, for starts other than those that happened to be measured too.

    The bootstrap over rounds knows nothing of what a start adds to all of its rounds. `start_sd`, the spread of the
    log-ratio between starts of identical targets, comes from recorded A/A runs and is added in quadrature; from four
    starts on the interval is at least as wide as Student's over the means of the starts (Kalibera & Jones 2013, 9.3).
    """
    within, middle = bootstrap_interval(values, starts, seed=seed), hodges_lehmann(values)
    means = np.array([hodges_lehmann(values[starts == start]) for start in np.unique(starts)])
    bias = Z * start_sd / math.sqrt(len(means))
    between = 0.0
    if len(means) >= STARTS_MIN:
        between = float(stats.t.ppf(1 - ALPHA / 2, len(means) - 1) * stats.sem(means))
    return Interval(
        middle - max(math.hypot(middle - within.low, bias), between),
        middle + max(math.hypot(within.high - middle, bias), between),
    )


def p_of_interval(middle: float, interval: Interval) -> float:
    """Two-sided p that a 95% interval stands for (Altman & Bland 2011, "How to obtain the P value from a CI")."""
    half = middle - interval.low if middle > 0 else interval.high - middle
    return float(2 * stats.norm.sf(Z * abs(middle) / half)) if half > 0 else float(middle == 0)


def detectable_difference(interval: Interval) -> float:
    """The log-ratio that a run with an interval this wide shows with 80% power (Lehr 1992: 2.8 standard errors)."""
    return (interval.high - interval.low) / 2 / Z * (Z + Z_POWER)


def verdict_of(interval: Interval, p_holm: float, delta: float) -> tuple[Verdict, str]:
    """One of four verdicts from the interval of the log-ratio; what is too small to matter is equivalent.

    Equivalence is the interval lying inside ±δ (Schuirmann 1987, with a 95% interval stricter than his 90%).
    """
    inside = math.log1p(delta)
    if -inside < interval.low and interval.high < inside:
        return "equivalent", f"the interval lies inside ±{100 * delta:g}%"
    if interval.low <= 0 <= interval.high:
        return "inconclusive", CONTAINS_1
    if p_holm >= ALPHA:
        return "inconclusive", f"p = {p_holm:.2g} after Holm's correction: more rounds are needed"
    if interval.high < 0:
        return "better", "the whole interval is below 1"
    return "worse", "the whole interval is above 1"


def compare(
    families: list[tuple[Floats, NDArray[np.int64]]], *, delta: float, start_sd: float, seed: int
) -> list[Comparison]:
    """Judges a family of comparisons announced together: (log-ratios by round, start by round) each.

    A comparison that cannot be computed is inconclusive with its reason, and still counts in Holm's family.
    """
    tested: list[tuple[Interval, float] | NotComputable] = []
    for values, starts in families:
        try:
            interval = interval_over_starts(values, starts, start_sd=start_sd, seed=seed)
            tested.append((interval, max(sign_flip_p(values), p_of_interval(hodges_lehmann(values), interval))))
        except NotComputable as why:
            tested.append(why)
    corrected = holm([1.0 if isinstance(test, NotComputable) else test[1] for test in tested])
    return [
        _judge(values, test, p_holm, delta)
        for (values, _), test, p_holm in zip(families, tested, corrected, strict=True)
    ]


def _judge(values: Floats, test: tuple[Interval, float] | NotComputable, p_holm: float, delta: float) -> Comparison:
    ratio = math.exp(hodges_lehmann(values)) if len(values) else None
    if isinstance(test, NotComputable):
        return Comparison(len(values), ratio, reason=str(test))
    interval, p = test
    shown, seen = Interval(*map(math.exp, interval)), detectable_difference(interval)
    needed = max(ROUNDS_MIN, math.ceil(len(values) * (seen / math.log1p(delta)) ** 2))
    verdict, reason = verdict_of(interval, p_holm, delta)
    return Comparison(len(values), ratio, shown, p, p_holm, verdict, reason, 100 * math.expm1(seen), needed)


def _finite(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        raise NotComputable("no valid round")
    if not np.all(np.isfinite(values)):
        raise NotComputable("a ratio that is no finite number")
    return values
