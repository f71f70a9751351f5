"""What the reads after one acknowledged command tell: which were stale, by how much, and when they no longer were."""

from collections.abc import Sequence
from typing import NamedTuple

DELAYS_US = (200, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000, 250_000, 500_000)


class Look(NamedTuple):
    """One read of one probe; `delay_us` is from the acknowledgement to its sending."""

    delay_us: int
    version: int


class Row(NamedTuple):
    operation: str
    probe: int
    delay_us: int
    stale: bool
    versions_behind: int
    visible_us: int | None


class Pair(NamedTuple):
    """Two reads at once after one acknowledgement: one with its token, which has to show the command, and one without.

    `behind`: the target refused the one with the token, as its views did not get there in time (503).
    """

    operation: str
    probe: int
    with_us: int
    without_us: int
    stale_with: bool
    stale_without: bool
    behind: bool


def rows_of(operation: str, probe: int, version: int, looks: Sequence[Look]) -> list[Row]:
    """`visible_us`, on the last row, is the delay of the first read after the last stale one; None if it never came."""
    ordered = sorted(looks)
    stale = [look.version < version for look in ordered]
    last_stale = max((place for place, is_stale in enumerate(stale) if is_stale), default=-1)
    visible_us = ordered[last_stale + 1].delay_us if last_stale + 1 < len(ordered) else None
    rows = [
        Row(operation, probe, look.delay_us, is_stale, max(0, version - look.version), None)
        for look, is_stale in zip(ordered, stale, strict=True)
    ]
    return [*rows[:-1], rows[-1]._replace(visible_us=visible_us)] if rows else []
