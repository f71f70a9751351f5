"""Table, figures and report say the same, from the same verdicts, with nothing hostile or from elsewhere in them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from analysis import colours, plots, report, sentences, tables
from analysis.findings import find
from tests.synthetic_runs import CQRS, CRUD, MEETING_PCT, write_run

HOSTILE = "<script>alert('x')</script>[bold]$\\frac{1}{2}$"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def printed(run_dir: Path, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables.render(run_dir))
    return console.export_text()


def test_the_planted_crossover_lies_in_its_interval_and_in_the_sentence(run_dir: Path) -> None:
    found = tables.summary(run_dir)["crossovers"]["cqrs"]
    assert found["answer"] == "above"
    assert found["interval_pct"]["low"] < MEETING_PCT < found["interval_pct"]["high"]
    assert f"above {found['share_pct']:.3g}% reads" in tables.sentence(run_dir)


def test_the_table_fits_100_columns_and_holds_the_key_facts(run_dir: Path) -> None:
    text = printed(run_dir)
    assert max(map(len, text.splitlines())) <= 100
    for fact in ("projector", "postgres", "ops per", "95%", "better", "worse", "visible", "All 32 rounds are valid"):
        assert fact in text
    assert "…" not in text
    assert tables.sentence(run_dir)[:60] in text


def test_the_costs_of_the_table_are_the_planted_ones(run_dir: Path) -> None:
    cell = next(c for c in tables.summary(run_dir)["cells"] if (c["read_share_pct"], c["target"]) == (95.0, "crud"))
    true_us = 0.95 * CRUD.read_us + 0.05 * CRUD.write_us
    assert cell["cost"]["total_us"] == pytest.approx(true_us, rel=0.15)
    parts = cell["cost"]["by_component_us"]
    assert parts["postgres"] / cell["cost"]["total_us"] == pytest.approx(CRUD.split["postgres"], abs=0.01)
    assert cell["latency"]["p50_ms"] == pytest.approx(CRUD.latency_ms, rel=0.15)


def test_the_summary_is_plain_json(run_dir: Path) -> None:
    assert json.loads(json.dumps(tables.summary(run_dir), allow_nan=False))["baseline"] == "crud"


def test_each_figure_is_written_twice_and_is_not_blank(run_dir: Path) -> None:
    written = plots.write(run_dir)
    assert {path.name for path in written} == {
        f"{name}.{suffix}" for name in ("ratio", "cpu", "latency", "staleness") for suffix in ("svg", "png")
    }
    for path in written:
        if path.suffix == ".png":
            shades = Image.open(path).convert("L").histogram()
            assert sum(shades[:128]) > 5_000, f"{path.name} is blank"


def test_figures_are_the_same_for_the_same_run(run_dir: Path) -> None:
    first, second = ([plot.inline_svg() for plot in plots.draw(find(run_dir))] for _ in range(2))
    assert first == second


def test_the_report_holds_every_figure_with_a_text_for_those_who_cannot_see_it(run_dir: Path) -> None:
    html = report.write(run_dir).read_text()
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    assert len(labels) == 4
    assert all(len(label) > 60 for label in labels)
    assert html.index(sentences.answer(find(run_dir))) < html.index("<figure>")


def test_the_report_asks_nothing_of_any_other_place(run_dir: Path) -> None:
    html = report.write(run_dir).read_text()
    assert not re.search(r"https?:|//[a-z]", html)
    assert set(re.findall(r'(?:src|href)="([^#"][^"]*)"', html)) == {"data:,"}
    assert "@import" not in html


def test_the_ids_of_the_report_are_unique_and_each_reference_has_its_target(run_dir: Path) -> None:
    html = report.write(run_dir).read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)


def test_hostile_names_are_shown_as_text_everywhere(tmp_path: Path) -> None:
    targets = (replace(CRUD, name="a&b <i>"), replace(CQRS, name=HOSTILE, rung="external"))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    html = report.write(folder).read_text()
    assert "<script" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    assert "-->" not in html
    plots.write(folder)
    assert "[bold]" in printed(folder, width=200)


def test_a_target_without_pids_has_latency_and_staleness_and_no_verdict(tmp_path: Path) -> None:
    targets = (CRUD, replace(CQRS, name="mine", rung="external", known_cpu=False))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    cell = tables.summary(folder)["cells"][1]
    assert cell["cost"] is None
    assert cell["latency"]["samples"] == 100
    assert cell["comparison"]["reason"] == "the CPU of mine was not measured"
    assert "the CPU of mine was not measured" in tables.sentence(folder)
    assert [plot.name for plot in plots.draw(find(folder))] == ["cpu", "latency", "staleness"]
    assert "no data for a figure" in report.write(folder).read_text()


def test_targets_of_equal_cost_are_said_to_be_equal_and_not_to_cross(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", targets=(CRUD, replace(CRUD, name="handlers", rung="handlers")), rounds=30)
    assert tables.sentence(folder) == "handlers uses as much CPU as crud at every measured read share, within 5%."


def test_one_target_alone_is_described_and_not_compared(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", targets=(CRUD,), rounds=5, operations=20)
    assert "nothing to compare" in tables.sentence(folder)
    assert "baseline" in printed(folder)
    report.write(folder)
    plots.write(folder)


def test_two_rounds_are_shown_and_called_inconclusive(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=2, operations=20)
    assert "an interval needs 5" in printed(folder)
    assert "inconclusive" in tables.sentence(folder)
    report.write(folder)


def test_a_rung_keeps_its_colour_and_a_twin_gets_another() -> None:
    found = colours.of_targets({"crud": "crud", "crud-again": "crud", "mine": "external", "cqrs": "cqrs"})
    assert found["crud"] == "#0072b2" and found["cqrs"] == "#d55e00"
    assert len(set(found.values())) == 4


def test_the_report_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    targets = (CRUD, replace(CQRS, name="it's mine", rung="external"))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    command = report.repeat_command(find(folder))
    assert command.startswith("crossover compare --rungs crud --target ")
    assert "--read-shares 50,80,95,99 --rate 300 --size s --profile quick" in command


def test_old_data_is_told_and_its_absence_too(run_dir: Path) -> None:
    lines: dict[str, Any] = {target: sentences.staleness_line(find(run_dir), target) for target in ("crud", "cqrs")}
    assert "no read missed" in lines["crud"]
    assert "of first reads after the write were stale" in lines["cqrs"]
