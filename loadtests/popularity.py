"""Which customer, product or order a request asks for: uniform, Zipf and latest-first choices, drawn from a seed."""

import hashlib
import math

import numpy as np

Draws = np.ndarray[tuple[int], np.dtype[np.float64]]
Indexes = np.ndarray[tuple[int], np.dtype[np.int64]]


def uniforms(count: int, *seed: object) -> Draws:
    """`count` numbers in [0, 1) of a seed.

    From the raw stream of PCG64, which NumPy promises to keep (NEP 19); its distributions may change with a version.
    """
    digest = hashlib.blake2b("/".join(map(str, seed)).encode(), digest_size=16).digest()
    raw = np.random.PCG64(int.from_bytes(digest, "big")).random_raw(count)
    return np.asarray(raw >> np.uint64(11), dtype=np.float64) * 2.0**-53


class Zipf:
    """Indexes 0..n-1, the rank k chosen with probability proportional to 1/k^exponent; exponent 0 is uniform.

    Ranks are scattered over the indexes: were the popular ones neighbours, they would share pages in every index
    and cache, which real popular things do not.
    """

    def __init__(self, n: int, exponent: float) -> None:
        assert n > 0, "a choice needs something to choose from"
        self.n = n
        self._edges = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -exponent)
        self._edges /= self._edges[-1]
        self._step, self._shift = _coprime(n), n // 3

    def indexes(self, draws: Draws) -> Indexes:
        ranks = np.minimum(np.searchsorted(self._edges, draws, side="right"), self.n - 1)  # 0 is the most popular
        places: Indexes = (ranks * self._step + self._shift) % self.n
        return places

    def index(self, draw: float) -> int:
        return int(self.indexes(np.array([draw]))[0])

    def most_popular(self, count: int) -> list[int]:
        """The indexes of the first ranks."""
        return [(rank * self._step + self._shift) % self.n for rank in range(min(count, self.n))]


def latest(draw: float, n: int, exponent: float) -> int:
    """An index of 0..n-1, the newest (n-1) most popular: Zipf over recency, in closed form as `n` keeps growing."""
    assert n > 0, "a choice needs something to choose from"
    if abs(exponent - 1) < 1e-9:
        back = (n + 1) ** draw
    else:
        power = 1 - exponent
        back = (((n + 1) ** power - 1) * draw + 1) ** (1 / power)
    return n - max(1, min(n, int(back)))


def _coprime(n: int) -> int:
    """A step near the golden section that visits every index once."""
    step = max(1, round(n * 0.618))
    while math.gcd(step, n) != 1:
        step += 1
    return step
