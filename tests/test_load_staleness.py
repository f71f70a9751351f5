"""What the reads of one probe say about when its command became visible."""

from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.staleness import ProbeRead, read_counts, rows_of


@pytest.mark.parametrize(
    ("versions", "visible_us"),
    [
        ((2, 2, 2), 100),  # at the first read
        ((1, 2, 2), 200),
        ((1, 1, 1), None),  # never
        ((2, 1, 2), 300),  # seen, gone again, and seen: visible only when it stays
        ((2, 2, 1), None),
        ((0, 3, 3), 200),  # not there at all, then already a later version
    ],
)
def test_an_effect_is_visible_from_the_first_read_after_the_last_stale_one(
    versions: tuple[int, ...], visible_us: int | None
) -> None:
    reads = [ProbeRead(100 * (place + 1), version) for place, version in enumerate(versions)]
    rows = rows_of("pay", 7, 2, list(reversed(reads)))
    assert [row.delay_us for row in rows] == [100, 200, 300]
    assert [row.versions_behind for row in rows] == [max(0, 2 - version) for version in versions]
    assert [row.stale for row in rows] == [version < 2 for version in versions]
    assert [row.visible_us for row in rows] == [None, None, visible_us]


def test_a_probe_without_an_answered_read_says_nothing() -> None:
    assert rows_of("pay", 0, 2, []) == []


def test_what_a_target_counts_itself_is_read_whatever_it_counts_and_nothing_else() -> None:
    lines = (
        "# TYPE cache_hits counter",
        "cache_hits_total 12.0",
        "replica_reads_on_primary_total 1.5e+06",
        "mine_total 7",
        "cache_hits_created 1.7e+09",
        "process_cpu_seconds_total 3.0",
        'http_requests_total{operation="ready"} 5.0',
        "broken_total NaN",
        "bytes_total 1e+300",
        "pool_size 10.0",
    )
    client: Any = SimpleNamespace(get=lambda _: SimpleNamespace(body="\n".join(lines).encode()))
    assert read_counts(client) == {"cache_hits": 12, "replica_reads_on_primary": 1_500_000, "mine": 7}
