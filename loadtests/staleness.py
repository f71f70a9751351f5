"""How stale the views were: by the reads after an acknowledged command, and by the projector's own report."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from loadtests.http import HttpClient, Unreachable

DELAYS_US = (200, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000, 120_000, 250_000, 500_000)
# A counter without labels that is none of the process itself, with its whole number.
_COUNT = re.compile(r"^(?!process_)(\w+)_total (\d+(?:\.\d+)?(?:e\+\d+)?)$", re.MULTILINE)
COUNT_MAX = 2**53  # above it a float is no exact number
_BUCKET = re.compile(r'^projection_applied_seconds_bucket\{le="([^"]+)"\} (\S+)', re.MULTILINE)


class ProbeRead(NamedTuple):
    """One read of a probe; `delay_us` counts from the acknowledgement to its sending."""

    delay_us: int
    version: int


class StalenessRow(NamedTuple):
    operation: str
    probe: int
    delay_us: int
    stale: bool
    versions_behind: int
    visible_us: int | None


class TokenRow(NamedTuple):
    """Two reads sent right after an acknowledgement: one with its token, which must show the command, and one without.

    `behind`: the target refused the one with the token (503), because its views did not catch up in time.
    """

    operation: str
    probe: int
    with_us: int
    without_us: int
    stale_with: bool
    stale_without: bool
    behind: bool


def rows_of(operation: str, probe: int, version: int, reads: Sequence[ProbeRead]) -> list[StalenessRow]:
    """`visible_us`, on the last row, is the delay of the first read after the last stale one; None if there is none."""
    ordered = sorted(reads)
    stale = [read.version < version for read in ordered]
    last_stale = max((place for place, is_stale in enumerate(stale) if is_stale), default=-1)
    visible_us = ordered[last_stale + 1].delay_us if last_stale + 1 < len(ordered) else None
    rows = [
        StalenessRow(operation, probe, read.delay_us, is_stale, max(0, version - read.version), None)
        for read, is_stale in zip(ordered, stale, strict=True)
    ]
    return [*rows[:-1], rows[-1]._replace(visible_us=visible_us)] if rows else []


def read_counts(client: HttpClient) -> dict[str, int]:
    """What the target itself has counted so far, by the name of the counter; empty where nothing is reported."""
    try:
        metrics = client.get("/metrics").body.decode("utf-8", "replace")
    except Unreachable:
        return {}
    found = {name: float(count) for name, count in _COUNT.findall(metrics)}
    return {name: int(count) for name, count in found.items() if count < COUNT_MAX}


def read_applied(client: HttpClient) -> dict[float, int]:
    """The projector's own histogram: seconds → events applied within them so far; empty where none is reported.

    It starts again at zero when the projector is restarted.
    """
    try:
        metrics = client.get("/metrics").body.decode("utf-8", "replace")
    except Unreachable:
        return {}
    return {float(within): int(float(count)) for within, count in _BUCKET.findall(metrics)}
