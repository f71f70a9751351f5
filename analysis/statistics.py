"""What a number means: estimates, intervals, tests and verdicts over per-round log-ratios.

The unit of analysis is the round, and above it the start of the processes (Kalibera & Jones 2013, "Rigorous
benchmarking in reasonable time"): requests of one round share its noise, rounds of one start share its memory layout
(Mytkowicz et al. 2009), so neither are treated as if they were independent.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "equivalent", "inconclusive"]

STARTS_MIN = 4  # from here on the spread between starts is measured; below it only the recorded one is known
ROUNDS_MIN = 5  # below this a bootstrap over rounds says nothing
RESAMPLES = 5_000
FLIPS = 20_000
EXACT_PAIRS_UP_TO = 60  # rounds whose pairs are all written out in each resample; above that they are binned
BINS = 4_096
EXACT_UP_TO = 14  # 2**14 sign patterns are enumerated; above that they are drawn
CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
Z_POWER = 0.8416  # its 80 % quantile


class NotComputable(Exception):
    """The data do not allow this statistic; the message says why."""


class Interval(NamedTuple):
    low: float
    high: float


class Comparison(NamedTuple):
    """A target against the baseline at one read share; `ratio` below 1 means the target needs less."""

    rounds: int
    ratio: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: Verdict
    reason: str
    detectable_pct: float | None  # smallest difference this run could have shown with 80 % power
    rounds_needed: int | None  # to tell a difference of delta


def hodges_lehmann(values: Floats) -> float:
    """The median of all pairwise means, pairs with itself included (Hodges & Lehmann 1963)."""
    return float(_hodges_lehmann_rows(_some(values)[None, :])[0])


def _hodges_lehmann_rows(rows: Floats) -> Floats:
    left, right = np.triu_indices(rows.shape[1])
    median: Floats = np.median((rows[:, left] + rows[:, right]) / 2, axis=1)
    return median


def bootstrap_interval(values: Floats, strata: NDArray[np.int64], *, seed: int) -> Interval:
    """95 % bootstrap interval of the Hodges–Lehmann estimate, resampling rounds within each restart.

    Percentile bootstrap (Efron 1979) with the quantiles widened for few rounds (Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", the expanded percentile interval): without it 8 rounds cover about 90 %, not 95 %.
    """
    values = _some(values)
    if len(values) < ROUNDS_MIN:
        raise NotComputable(f"{len(values)} valid rounds, an interval needs {ROUNDS_MIN}")
    rng = np.random.default_rng(seed)
    picks = resample_indices(strata, RESAMPLES, rng)
    if len(values) > EXACT_PAIRS_UP_TO:
        return percentile_interval(_hodges_lehmann_binned(values, picks), strata)
    chunk = max(1, 8_000_000 // (len(values) * (len(values) + 1) // 2))  # bounds memory to some 100 MB
    parts = [_hodges_lehmann_rows(values[picks[start : start + chunk]]) for start in range(0, RESAMPLES, chunk)]
    return percentile_interval(np.concatenate(parts), strata)


def _hodges_lehmann_binned(values: Floats, picks: NDArray[np.int64]) -> Floats:
    """The estimate for each row of picks, to 1/8,190 of the data's range, in n·log(n) instead of n².

    The sums of all pairs are distributed as the histogram convolved with itself, which an FFT gives (Cooley & Tukey
    1965); 720 rounds take a second instead of forty.
    """
    low, high = float(values.min()), float(values.max())
    step = (high - low) / (BINS - 1) or 1.0
    bins = np.rint((values - low) / step).astype(np.int64)
    medians = np.empty(len(picks))
    for start in range(0, len(picks), 500):  # bounds memory to some 100 MB
        rows = bins[picks[start : start + 500]]
        counts = np.stack([np.bincount(row, minlength=BINS) for row in rows]).astype(np.float64)
        pairs = np.rint(np.fft.irfft(np.fft.rfft(counts, 2 * BINS) ** 2, 2 * BINS))
        pairs[:, : 2 * BINS : 2] += counts  # each value with itself: now every pair stands twice
        reached = np.cumsum(pairs, axis=1) >= pairs.sum(axis=1, keepdims=True) / 2
        medians[start : start + 500] = low + np.argmax(reached, axis=1) * step / 2
    return medians


def resample_indices(strata: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`resamples` rows of indices, each drawn with replacement inside each stratum (stratified bootstrap)."""
    picks = np.empty((resamples, len(strata)), dtype=np.int64)
    for stratum in np.unique(strata):
        (members,) = np.nonzero(strata == stratum)
        picks[:, members] = members[rng.integers(0, len(members), size=(resamples, len(members)))]
    return picks


def percentile_interval(draws: Floats, strata: NDArray[np.int64]) -> Interval:
    """The middle 95 % of bootstrap draws, widened for the few rounds they came from (Hesterberg 2015)."""
    tail = expanded_tail(len(strata), len(np.unique(strata)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))


def expanded_tail(rounds: int, strata: int) -> float:
    """The share to cut at each end: Φ(−√(n/(n−k))·t), t the Student quantile with n−k degrees of freedom."""
    freedom = rounds - strata
    if freedom < 3:
        raise NotComputable(f"{rounds} rounds over {strata} restarts are too few for an interval")
    widened = math.sqrt(rounds / freedom) * student_quantile(freedom)
    return 0.5 * math.erfc(widened / math.sqrt(2))


def student_quantile(freedom: int, z: float = Z) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz & Stegun 1964, 26.7.5); error below 0.5 % from 3 degrees on."""
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def sign_flip_p(values: Floats, *, seed: int) -> float:
    """Two-sided p that the rounds are symmetric about zero: a permutation test that flips signs (Fisher 1935).

    The statistic is the signed-rank sum (Wilcoxon 1945), whose inversion is the Hodges–Lehmann estimate. Up to 14
    rounds every pattern is counted; above that 20,000 are drawn and the observed one is added to them, so p is never
    zero (Phipson & Smyth 2010).
    """
    values = _some(values)
    ranks = _ranks_of_size(values)
    observed = abs(float(np.sum(ranks * np.sign(values))))
    count = len(values)
    if count <= EXACT_UP_TO:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        extreme = np.abs((2 * patterns - 1) @ ranks) >= observed - 1e-9
        return float(np.mean(extreme))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(FLIPS, count)) * 2 - 1
    extreme = np.abs(signs @ ranks) >= observed - 1e-9
    return float((np.sum(extreme) + 1) / (FLIPS + 1))


def _ranks_of_size(values: Floats) -> Floats:
    """Ranks of |values|, ties sharing their mean rank; zeros have rank 0, since flipping them changes nothing."""
    sizes = np.abs(values)
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse] * (sizes > 0)
    return ranks


def holm(ps: list[float]) -> list[float]:
    """p-values adjusted for the whole announced family, in the order given (Holm 1979, step-down)."""
    adjusted = [0.0] * len(ps)
    running = 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        running = max(running, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = running
    return adjusted


def interval_over_starts(values: Floats, starts: NDArray[np.int64], *, start_sd: float, seed: int) -> Interval:
    """95 % interval of the log-ratio, for starts other than those that happened to be measured too.

    The bootstrap over rounds knows nothing of what a start adds to all of its rounds. `start_sd`, the spread of the
    log-ratio between starts of identical targets, comes from recorded A/A runs and is added in quadrature; from four
    starts on the interval is at least as wide as Student's over the means of the starts (Kalibera & Jones 2013, 9.3).
    """
    within, middle = bootstrap_interval(values, starts, seed=seed), hodges_lehmann(values)
    means = np.array([hodges_lehmann(values[starts == start]) for start in np.unique(starts)])
    bias = Z * start_sd / math.sqrt(len(means))
    between = 0.0
    if len(means) >= STARTS_MIN:
        between = student_quantile(len(means) - 1) * _spread(means) / math.sqrt(len(means))
    return Interval(
        middle - max(math.hypot(middle - within.low, bias), between),
        middle + max(math.hypot(within.high - middle, bias), between),
    )


def p_of_interval(middle: float, interval: Interval) -> float:
    """Two-sided p that a 95 % interval stands for (Altman & Bland 2011, "How to obtain the P value from a CI")."""
    half = middle - interval.low if middle > 0 else interval.high - middle
    return math.erfc(Z * abs(middle) / half / math.sqrt(2)) if half > 0 else float(middle == 0)


def detectable_difference(interval: Interval) -> float:
    """The log-ratio that a run with an interval this wide shows with 80 % power (Lehr 1992: 2.8 standard errors)."""
    return (interval.high - interval.low) / 2 / Z * (Z + Z_POWER)


def rounds_for(rounds: int, interval: Interval, delta: float) -> int:
    """The rounds, over as many more starts, that would show a log-ratio of `delta` with 80 % power."""
    return max(ROUNDS_MIN, math.ceil(rounds * (detectable_difference(interval) / delta) ** 2))


def verdict_of(interval: Interval, p_holm: float, delta: float) -> tuple[Verdict, str]:
    """One of four verdicts from the interval of the log-ratio; what is too small to matter is equivalent.

    Equivalence is the interval lying inside ±δ (Schuirmann 1987, with a 95 % interval stricter than his 90 %).
    """
    inside = math.log1p(delta)
    if -inside < interval.low and interval.high < inside:
        return "equivalent", f"the interval lies inside ±{100 * delta:g} %"
    if interval.low <= 0 <= interval.high:
        return "inconclusive", "the interval reaches from less to more"
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
    tested: list[Comparison | None] = []
    intervals: list[Interval] = []
    ps: list[float] = []
    for values, starts in families:
        try:
            interval = interval_over_starts(values, starts, start_sd=start_sd, seed=seed)
            intervals.append(interval)
            ps.append(max(sign_flip_p(values, seed=seed), p_of_interval(hodges_lehmann(values), interval)))
            tested.append(None)
        except NotComputable as why:
            ratio = math.exp(hodges_lehmann(values)) if len(values) else None
            tested.append(Comparison(len(values), ratio, None, None, None, "inconclusive", str(why), None, None))
            intervals.append(Interval(math.nan, math.nan))
            ps.append(1.0)
    results = []
    for untested, (values, _), interval, p, p_holm in zip(tested, families, intervals, ps, holm(ps), strict=True):
        results.append(untested or _judge(values, interval, p, p_holm, delta))
    return results


def _judge(values: Floats, interval: Interval, p: float, p_holm: float, delta: float) -> Comparison:
    verdict, reason = verdict_of(interval, p_holm, delta)
    return Comparison(
        rounds=len(values),
        ratio=math.exp(hodges_lehmann(values)),
        interval=Interval(math.exp(interval.low), math.exp(interval.high)),
        p=p,
        p_holm=p_holm,
        verdict=verdict,
        reason=reason,
        detectable_pct=100 * math.expm1(detectable_difference(interval)),
        rounds_needed=rounds_for(len(values), interval, math.log1p(delta)),
    )


def wilson(hits: int, trials: int) -> Interval:
    """95 % interval of a share (Wilson 1927): sensible at 0 and at 1, where the textbook interval has no width."""
    if trials <= 0:
        raise NotComputable("a share of no trials")
    z = Z
    share = hits / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At 0 and 1 the formula gives the end itself, but for rounding.
    return Interval(0.0 if hits == 0 else middle - half, 1.0 if hits == trials else middle + half)


def _spread(values: Floats) -> float:
    if len(values) < 2:
        raise NotComputable("the spread of one round")
    return float(np.std(_some(values), ddof=1))


def _some(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        raise NotComputable("no valid round")
    if not np.all(np.isfinite(values)):
        raise NotComputable("a ratio that is no finite number")
    return values
