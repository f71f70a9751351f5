"""What a cache does is found again from its counters, in each run by itself and in two that differ in their keys."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import cache_plots, colours, report, tables
from analysis.findings import find
from analysis.runs import UnusableRun
from tests.synthetic_runs import CRUD, Truth, rewritten, write_run

CACHE = Truth("cache", "cache", 320.0, 2_600.0, {"app": 0.5, "postgres": 0.4, "cache": 0.1}, parent="crud", hit=0.6)
POPULAR, UNIFORM = ("zipf", "latest", "zipf"), ("uniform",)


def run_of(folder: Path, keys: tuple[str, ...], *caches: Truth, **changes: Any) -> Path:
    by_kind = {f"thing {place}": {"distribution": kind} for place, kind in enumerate(keys)}
    changes = {"rounds": 6, "operations": 200, "probes": 0, "read_shares": (50.0, 95.0), **changes}
    write_run(folder, targets=(CRUD, *caches), **changes)
    return rewritten(folder, lambda manifest: manifest["fingerprint"]["workload"].update(keys=by_kind))


def test_the_share_of_hits_is_that_of_measured_valid_rounds_with_its_interval_and_only_of_a_cache(
    tmp_path: Path,
) -> None:
    def edit(row: dict[str, Any]) -> None:
        row["drained"] = row["round"] != 2  # the first that is measured

    findings = find(run_of(tmp_path / "run", UNIFORM, CACHE, slice_edits=[edit]))
    crud, half, crud_again, most = findings.cells
    assert half.hits and most.hits and crud.hits is crud_again.hits is None
    assert (half.hits.reads, most.hits.reads) == (pytest.approx(500, rel=0.1), pytest.approx(1_140, rel=0.05))
    for hits in (half.hits, most.hits):
        assert hits.interval and hits.interval.low < 0.6 < hits.interval.high < hits.interval.low + 0.2
        assert hits.loads == hits.reads - hits.hits
    assert [bool(cell["hits"]) for cell in tables.summary(tmp_path / "run")["cells"]] == [False, True, False, True]
    few = find(run_of(tmp_path / "few", UNIFORM, CACHE, rounds=2)).of("cache")[0].hits
    assert few and few.interval is None


def test_the_report_of_a_run_with_a_cache_shows_what_it_did_and_one_without_says_nothing(tmp_path: Path) -> None:
    html = report.write(run_of(tmp_path / "run", POPULAR, CACHE)).read_text()
    assert re.search(
        r"<figcaption>With zipf and latest keys \d\d% of reads hit the cache at 95% reads</figcaption>", html
    )
    item = (
        r"<li>cache at \d\d% reads: [\d.]+% of [\d,]+ reads hit \([\d.–]+%\), \d+ loads, 0 evictions, CPU × \d.\d\d \["
    )
    assert len(re.findall(item, html)) == 2 and 'href="#cache"' in html
    assert re.search('aria-label="zipf and latest keys, 50% reads: [^"]+, 95% reads: ', html)
    assert "cache" not in report.write(write_run(tmp_path / "other", rounds=5, operations=20)).read_text()


def test_runs_that_differ_in_their_keys_stand_side_by_side_and_others_are_refused(tmp_path: Path) -> None:
    popular = find(run_of(tmp_path / "popular", POPULAR, CACHE))
    uniform = find(run_of(tmp_path / "uniform", UNIFORM, replace(CACHE, hit=0.2), rounds=5))
    plot = cache_plots.side_by_side(popular, uniform)
    claim = r"With zipf and latest keys (5|6)\d% of reads hit the cache at 95% reads, with uniform keys (1|2)\d%"
    assert re.fullmatch(claim, plot.title) and len(plot.alt.split("; ")) == 4
    upper, lower = plot.figure.axes
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("reads that hit, %", "read share, %")
    assert {line.get_color() for line in upper.lines} == {colours.of_rung("cache")}
    assert len({line.get_linestyle() for line in upper.lines}) == 2
    for name, changes, refusal in (
        ("larger", {"size": "m"}, r"different size \(s vs m\)"),
        ("none", {}, "None of these runs has a target whose cache counts"),
    ):
        other = find(run_of(tmp_path / name, UNIFORM, replace(CACHE, hit=0.2 if changes else None), **changes))
        with pytest.raises(UnusableRun, match=refusal):
            cache_plots.side_by_side(*([popular] if changes else []), other)


def test_two_caches_of_one_run_are_told_apart(tmp_path: Path) -> None:
    found = find(run_of(tmp_path / "run", UNIFORM, CACHE, replace(CACHE, name="cache-2"), read_shares=(80.0,)))
    assert re.fullmatch(
        r"With uniform keys on cache \d\d% of reads hit the cache at 80% reads, with uniform keys on cache-2 \d\d%",
        cache_plots.side_by_side(found).title,
    )
