"""The answer in words: for runs of every shape the sentences are exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import answer
from analysis.crossover import Crossover
from analysis.findings import Findings, find
from analysis.hits import Hits
from analysis.sentences import cache_line
from analysis.statistics import CONTAINS_1, Comparison, Interval
from tests.synthetic_runs import CQRS, CRUD, Truth, times, write_run

SMALL: dict[str, Any] = {"rounds": 8, "warmups": 0, "probes": 0, "operations": 100, "read_shares": (50.0, 80.0, 95.0)}
VIEWS = Truth("views", "views", 330.0, 2_900.0, {"app": 0.4, "postgres": 0.6}, parent="crud")
PARTED = replace(CQRS, parent="views")
MINE = replace(CQRS, name="mine", rung="external", known_cpu=False, latency_ms=1.5)
TWO, FOUR = "crud 2 (app and postgres)", "cqrs 4 (app, postgres, projector and redis)"
UNSEEN = "Staleness was not measured."
BY_CPU = "(the least CPU within the noise, and of equals the fewest parts)."

SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "crossing inside": (
        {},
        [
            "At 50% reads cqrs uses 21% more CPU than crud (15–25%).",
            "At 80% reads cqrs uses 13% less CPU than crud (5–22%).",
            "At 95% reads cqrs uses 51% less CPU than crud (45–61%).",
            "cqrs uses less CPU than crud above 71% reads (95% interval 69.7–72.1%).",
            f"Recommended: crud at 50% reads; cqrs at 80% and 95% reads {BY_CPU}",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "crossing below": (
        {"targets": (CRUD, replace(CQRS, write_us=2_500.0))},
        [
            "At 50% reads cqrs uses 7% less CPU than crud (4–11%).",
            "At 80% reads cqrs uses 31% less CPU than crud (25–37%).",
            "At 95% reads cqrs uses 57% less CPU than crud (53–64%).",
            "cqrs uses less CPU than crud at every measured read share; the crossover lies below 50%.",
            f"Recommended: cqrs at 50%, 80% and 95% reads {BY_CPU}",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "crossing above": (
        {"read_shares": (20.0, 50.0)},
        [
            "At 20% reads cqrs uses 38% more CPU than crud (36–41%).",
            "At 50% reads cqrs uses 25% more CPU than crud (20–28%).",
            "cqrs uses more CPU than crud at every measured read share; the crossover lies above 50%.",
            f"Recommended: crud at 20% and 50% reads {BY_CPU}",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "always": (
        {"targets": (CRUD, times(CRUD, 0.15, name="cqrs", rung="cqrs"))},
        [
            "At 50% reads cqrs uses 15% of the CPU of crud (15–15%).",
            "At 80% reads cqrs uses 15% of the CPU of crud (15–16%).",
            "At 95% reads cqrs uses 15% of the CPU of crud (15–15%).",
            "cqrs uses less CPU than crud at every read share (measured from 50 to 95%).",
            f"Recommended: cqrs at 50%, 80% and 95% reads {BY_CPU}",
            f"Parts: {TWO}; cqrs 2 (app and postgres).",
            UNSEEN,
        ],
    ),
    "never": (
        {"targets": (CRUD, times(CRUD, 2.5, name="cqrs", rung="cqrs"))},
        [
            "At 50% reads cqrs uses 2.5 times the CPU of crud (2.4–2.5).",
            "At 80% reads cqrs uses 2.5 times the CPU of crud (2.5–2.6).",
            "At 95% reads cqrs uses 2.5 times the CPU of crud (2.5–2.6).",
            "cqrs uses more CPU than crud at every read share (measured from 50 to 95%).",
            f"Recommended: crud at 50%, 80% and 95% reads {BY_CPU}",
            f"Parts: {TWO}; cqrs 2 (app and postgres).",
            UNSEEN,
        ],
    ),
    "equal": (
        {"targets": (CRUD, replace(CRUD, name="handlers", rung="handlers")), "rounds": 30},
        [
            "At 50% reads handlers uses as much CPU as crud, within 5%.",
            "At 80% reads handlers uses as much CPU as crud, within 5%.",
            "At 95% reads handlers uses as much CPU as crud, within 5%.",
            "handlers uses as much CPU as crud at every measured read share, within 5%.",
            f"Recommended: crud at 50%, 80% and 95% reads {BY_CPU}",
            f"Parts: {TWO}; handlers 2 (app and postgres).",
            UNSEEN,
        ],
    ),
    "one share": (
        {"read_shares": (95.0,)},
        [
            "At 95% reads cqrs uses 50% less CPU than crud (44–58%).",
            f"Recommended: cqrs at 95% reads {BY_CPU}",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "no CPU": (
        {"targets": (CRUD, MINE)},
        [
            "The CPU of mine was not measured, so latency is compared.",
            "At 50% reads mine has 38% less median latency than crud (32–42%).",
            "At 80% reads mine has 36% less median latency than crud (32–41%).",
            "At 95% reads mine has 38% less median latency than crud (35–41%).",
            "mine has less median latency than crud at every measured read share; "
            "any crossover lies below 50% or above 95%.",
            "Recommended: mine at 50%, 80% and 95% reads (the least median latency).",
            f"Parts: {TWO}; mine unknown.",
            UNSEEN,
        ],
    ),
    "three rungs": (
        {"targets": (CRUD, VIEWS, PARTED)},
        [
            "At 50% reads views uses 14% more CPU than crud (8–20%); cqrs uses 20% more CPU than crud (15–27%).",
            "At 80% reads views uses 11% less CPU than crud (9–16%); cqrs uses 15% less CPU than crud (9–21%).",
            "At 95% reads views uses 38% less CPU than crud (35–41%); cqrs uses 56% less CPU than crud (51–61%).",
            "views uses less CPU than crud above 68.9% reads (95% interval 66.7–70.5%).",
            "cqrs uses less CPU than crud above 69.9% reads (95% interval 69.1–70.7%).",
            f"Recommended: crud at 50% reads; views at 80% reads; cqrs at 95% reads {BY_CPU}",
            "Step from views to cqrs: at 50% reads 5% more CPU (4–8%), "
            "at 80% reads inconclusive (between 7% less and 0.3% more CPU), at 95% reads 29% less CPU (24–35%).",
            f"Parts: {TWO}; views 2 (app and postgres); {FOUR}.",
            UNSEEN,
        ],
    ),
    "A/A failed": (
        {"targets": (CRUD, times(CRUD, 1.2, name="crud-2"), CQRS)},
        [
            "Inconclusive: the A/A pair crud and crud-2 differs: the whole run is void.",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "two rounds": (
        {"rounds": 2},
        [
            "At 50% reads cqrs against crud is inconclusive: 2 valid rounds, an interval needs 5.",
            "At 80% reads cqrs against crud is inconclusive: 2 valid rounds, an interval needs 5.",
            "At 95% reads cqrs against crud is inconclusive: 2 valid rounds, an interval needs 5.",
            "The crossover of cqrs and crud is inconclusive: 2 valid rounds at a read share, an interval needs 5.",
            f"Parts: {TWO}; {FOUR}.",
            UNSEEN,
        ],
    ),
    "alone": (
        {"targets": (CRUD,)},
        ["Only crud was measured, so there is nothing to compare.", f"Parts: {TWO}.", UNSEEN],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_words_are_exact(tmp_path: Path, shape: str) -> None:
    changes, said = SHAPES[shape]
    assert answer.lines(find(write_run(tmp_path / "run", **SMALL | changes))) == said


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return find(write_run(tmp_path_factory.mktemp("runs") / "run", **SMALL | {"rounds": 5}))


UNSURE = "cqrs uses less CPU than crud at"


@pytest.mark.parametrize(
    ("verdicts", "draws", "said"),
    [
        ("---", {"above": 0.5, "always": 0.5}, f"{UNSURE} every measured read share; any crossover lies below 50%"),
        ("---", {"above": 0.99}, f"{UNSURE} every measured read share; the crossover lies below 50%"),
        ("---", {"below": 0.6, "always": 0.4}, f"{UNSURE} every measured read share; any crossover lies above 95%"),
        ("---", {}, f"{UNSURE} every measured read share; any crossover lies below 50% or above 95%"),
        ("?--", {"above": 0.8, "always": 0.2}, f"{UNSURE} 80% and 95% reads; any crossover lies below 80%"),
        (
            "+++",
            {"above": 0.6, "never": 0.4},
            "cqrs uses more CPU than crud at every measured read share; any crossover lies above 95%",
        ),
        (
            "+?-",
            {},
            "cqrs uses more CPU than crud at 50% reads and less at 95% reads; the crossover lies between 50% and 95%",
        ),
        (
            "-++",
            {},
            "cqrs uses more CPU than crud at 80% and 95% reads and less at 50% reads; "
            "the crossover lies between 50% and 80%",
        ),
        ("-+-", {}, "The crossover of cqrs and crud is inconclusive: the draws disagree"),
        ("???", {}, "The crossover of cqrs and crud is inconclusive: the draws disagree"),
        ("?==", {}, "cqrs uses as much CPU as crud at 2 of 3 read shares, within 5%"),
    ],
)
def test_verdicts_that_agree_bound_the_crossover_where_the_fit_is_uncertain(
    findings: Findings, verdicts: str, draws: dict[str, float], said: str
) -> None:
    names = {"-": "better", "+": "worse", "=": "equivalent", "?": "inconclusive"}
    marks = dict(zip(findings.read_shares, verdicts, strict=True))
    cells = tuple(
        cell._replace(comparison=cell.comparison._replace(verdict=names[marks[cell.read_share_pct]]))  # type: ignore[arg-type]
        if cell.comparison
        else cell
        for cell in findings.cells
    )
    unsure = Crossover("inconclusive", "the draws disagree", agreement=draws)
    assert answer.crossover_line(findings._replace(cells=cells, crossovers={"cqrs": unsure}), "cqrs") == f"{said}."


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (0.42, 0.34, 0.50, "58% less CPU than crud (50–66%)"),
        (0.17, 0.15, 0.19, "one sixth of the CPU of crud (15–19%)"),
        (0.15, 0.149, 0.152, "15% of the CPU of crud (15–15%)"),
        (1.36, 1.33, 1.40, "36% more CPU than crud (33–40%)"),
        (0.94, 0.89, 0.996, "6% less CPU than crud (0.4–11%)"),
        (2.31, 2.12, 2.58, "2.3 times the CPU of crud (2.1–2.6)"),
    ],
)
def test_ratios_are_said_as_a_person_would_with_the_interval_of_what_is_said(
    ratio: float, low: float, high: float, said: str
) -> None:
    assert answer.amount(Comparison(9, ratio, Interval(low, high), verdict="better"), base="crud") == said


def test_an_interval_that_contains_1_says_between_what_and_what() -> None:
    found = Comparison(9, 0.96, Interval(0.84, 1.09), reason=CONTAINS_1)
    assert answer.reason(found, "CPU") == "between 16% less and 9% more CPU"


def test_a_cache_says_what_it_hit(tmp_path: Path) -> None:
    findings = find(write_run(tmp_path / "run", **SMALL))
    cells = [findings.cell(share, "crud")._replace(hits=Hits(500, 450, 48, 3, None)) for share in (50.0, 80.0)]
    assert cache_line(findings._replace(cells=tuple(cells)), "crud") == (
        "crud: 90% of 1,000 reads hit, 96 loads, 6 evictions."
    )
    assert cache_line(findings, "crud") is None
