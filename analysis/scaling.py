"""The Universal Scalability Law through measured throughputs (Gunther 1993; 2007, "Guerrilla Capacity Planning").

X(N) = λN / (1 + σ(N − 1) + κN(N − 1)): N operations in flight on average, λ the throughput of one alone, σ what they
wait for one another, κ what they cost one another. Found by non-negative least squares of relative errors in its
linear form N/X = (1 + σ(N − 1) + κN(N − 1)) / λ; intervals by bootstrap over trials.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from analysis.statistics import Floats, Interval, NotComputable, quantiles

RATES_MIN = 6  # different loads (Gunther advises at least six)
SPAN_MIN = 4.0  # between the least and the most in flight: less shows no bend
REACH = 2.0  # how far beyond the most in flight the law is drawn and asked, at most
RESAMPLES = 1_000


class Law(NamedTuple):
    """`rows`: (λ, σ, κ), the estimate first, then one row a bootstrap draw."""

    rows: Floats
    in_flight_max: float  # measured

    def throughput(self, in_flight: Floats | float) -> Floats:
        """Operations a second, one row an estimate or draw; asked beyond its reach it raises NotComputable."""
        n = np.atleast_1d(np.asarray(in_flight, dtype=np.float64))
        if n.max() > REACH * self.in_flight_max * (1 + 1e-9):
            raise NotComputable(f"the law is not extrapolated beyond {REACH:g} times the range measured")
        one, wait, cross = (self.rows[:, [column]] for column in range(3))
        found: Floats = one * n / (1 + wait * (n - 1) + cross * n * (n - 1))
        return found

    def interval(self, values: Floats) -> Interval:
        return quantiles(values[1:])

    @property
    def peak(self) -> float | None:
        """Where throughput is highest, in operations in flight; None beyond the reach, or where κ may be zero."""
        _, wait, cross = self.rows[0]
        certain = self.interval(self.rows[:, [2]]).low > 0
        at = math.sqrt(max(0.0, 1 - wait) / cross) if certain else math.inf
        return at if at <= REACH * self.in_flight_max else None


def fit(in_flight: Floats, throughput_per_s: Floats, *, seed: int) -> Law:
    """Raises NotComputable when there are not enough points."""
    if len(np.unique(np.round(throughput_per_s / throughput_per_s.max(), 2))) < RATES_MIN:
        raise NotComputable(f"not enough points: it takes steady trials at {RATES_MIN} different loads")
    if in_flight.max() < SPAN_MIN * in_flight.min():
        raise NotComputable(f"not enough points: the most in flight must be {SPAN_MIN:g} times the least")
    rng = np.random.default_rng(seed)
    picks = [np.arange(len(in_flight)), *rng.integers(0, len(in_flight), (RESAMPLES, len(in_flight)))]
    rows = [_fit(in_flight[pick], throughput_per_s[pick]) for pick in picks]
    return Law(np.array([row for row in rows if row is not None]), float(in_flight.max()))


def _fit(n: Floats, x: Floats) -> tuple[float, float, float] | None:
    """(λ, σ, κ); None when a draw fits nothing."""
    columns = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1) * (x / n)[:, None]
    (one, wait, cross), _ = nnls(columns, np.ones_like(n))
    return (1 / one, wait / one, cross / one) if one > 0 else None
