"""A latency is shown with what the load generator may have added to it, and a percentile only of enough samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import sentences, tables
from analysis.findings import find
from analysis.latency import Latency
from tests.synthetic_runs import CRUD, printed, write_run

SMALL: dict[str, Any] = {"rounds": 5, "warmups": 0, "probes": 12, "operations": 100, "read_shares": (50.0,)}


def of(folder: Path, latency_ms: float = 2.0, **changes: Any) -> Latency:
    found = find(write_run(folder, **SMALL | {"targets": (replace(CRUD, latency_ms=latency_ms),)} | changes))
    assert found.cells[0].latency is not None
    return found.cells[0].latency


@pytest.mark.parametrize(
    ("latency_ms", "generator_cpu_us", "marks"),
    [
        (4.0, 30_000, ["", "", ""]),
        (0.3, 30_000, ["uncertain"] * 3),  # the generator is late by 20 to 200 µs
        (0.03, 30_000, ["void", "void", "void"]),
        (4.0, 360_000, ["uncertain"] * 3),  # a busy generator
    ],
)
def test_the_lag_of_the_whole_cell_marks_what_it_could_have_changed(
    tmp_path: Path, latency_ms: float, generator_cpu_us: int, marks: list[str]
) -> None:
    edit = {"slice_edits": [lambda row: row.update(generator_cpu_us=generator_cpu_us)]}
    assert [found.mark for found in of(tmp_path / "run", latency_ms, **edit).percentiles.values()] == marks
    lines = sentences.latency_lines(find(tmp_path / "run"))
    assert [line.split(" (")[0] for line in lines] == [f"Latency is {mark}" for mark in dict.fromkeys(marks) if mark]
    assert all("lower --rate, or end other programs): p50, p95 and p99 of crud at 50% reads." in line for line in lines)


def test_a_slow_slice_of_a_hundred_operations_hides_no_latency(tmp_path: Path) -> None:
    def busy(row: dict[str, Any]) -> None:
        row.update(generator_cpu_us=400_000 if row["round"] == 2 else 30_000)

    found = of(tmp_path / "run", 4.0, slice_edits=[busy])
    assert found.p50.samples == 500 and not any(each.mark for each in found.percentiles.values())


@pytest.mark.parametrize(
    ("operations", "p95", "p99"),
    [
        (100, "ms, generator lag ≤ 0.2 ms", "ms, generator lag ≤ 0.2 ms"),
        (20, "ms, generator lag ≤ 0.2 ms", "ms in 100 of 100 (96–100%)"),
        (8, "ms in 40 of 40 (91–100%)", "ms in 40 of 40 (91–100%)"),
    ],
)
def test_a_percentile_of_too_few_samples_is_the_share_that_was_as_fast_as_the_slowest(
    tmp_path: Path, operations: int, p95: str, p99: str
) -> None:
    found = of(tmp_path / "run", operations=operations)
    assert p95 in found.p95.in_words and p99 in found.p99.in_words
    text = printed(tables.render(tmp_path / "run"), 80)
    assert found.p99.in_short in text and "≤ 0.2 in 12 of 12" in text, "so are the times until a write is visible"
