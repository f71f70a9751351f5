"""Table, figures and report say the same, from the same verdicts, with nothing hostile or from elsewhere in them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from PIL import Image

from analysis import answer, colours, plots, report, sentences, tables
from analysis.findings import find
from tests.synthetic_runs import CQRS, CRUD, MEETING_PCT, printed, rewritten, write_run

HOSTILE = "<script>alert('x')</script>[bold]$\\frac{1}{2}$"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def html(run_dir: Path) -> str:
    return report.write(run_dir).read_text()


def test_the_planted_crossover_lies_in_its_interval_and_in_the_sentence(run_dir: Path) -> None:
    found = tables.summary(run_dir)["crossovers"]["cqrs"]
    assert found["answer"] == "above"
    assert found["interval_pct"]["low"] < MEETING_PCT < found["interval_pct"]["high"]
    assert f"above {found['share_pct']:.3g}% reads" in tables.sentence(run_dir)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_tables_fit_a_terminal_and_lose_no_fact_in_a_narrow_one(run_dir: Path, width: int) -> None:
    text = printed(tables.render(run_dir), width)
    facts = ("projector", "postgres", "ops per", "95%", "better", "worse", "visible", "All 32 rounds are valid")
    assert all(fact in text for fact in (*facts, tables.sentence(run_dir)[:50]))
    assert text.startswith("At 50% reads cqrs uses ") and text.rstrip().endswith(answer.headline(find(run_dir)))
    assert {word for word in printed(tables.render(run_dir), 200).split() if "─" not in word} <= set(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_and_no_number_is_cut_however_many_and_long_they_are(tmp_path: Path, width: int) -> None:
    parts = ("postgres", "projector", "redis", "rabbitmq", "opensearch")
    names = ("crud", "event_sourced", "broker-rabbitmq-commands", "broker-kafka-with-a-very-long-name", "search")
    targets = tuple(
        replace(CQRS, name=name, rung=name, split={"app": 0.4} | dict.fromkeys(parts[: i + 1], 0.6 / (i + 1)))
        for i, name in enumerate(names)
    )
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20, read_shares=(50.0, 95.0))
    whole, narrow = (printed(tables.render(folder), each) for each in (300, width))
    assert {word for word in whole.split() if "─" not in word} <= set(narrow.split())


def test_the_costs_of_the_summary_are_the_planted_ones(run_dir: Path) -> None:
    data = json.loads(json.dumps(tables.summary(run_dir), allow_nan=False))
    cell = next(c for c in data["cells"] if (c["read_share_pct"], c["target"]) == (95.0, "crud"))
    assert cell["cost"]["total_us"] == pytest.approx(0.95 * CRUD.read_us + 0.05 * CRUD.write_us, rel=0.15)
    parts = cell["cost"]["by_component_us"]
    assert parts["postgres"] / cell["cost"]["total_us"] == pytest.approx(CRUD.split["postgres"], abs=0.01)
    assert cell["latency"]["p50"]["ms"] == pytest.approx(CRUD.latency_ms, rel=0.15)


def test_each_figure_is_written_twice_and_is_not_blank_and_always_the_same(run_dir: Path) -> None:
    written = [path for plot in plots.draw(find(run_dir)) for path in plot.save(run_dir / "plots")]
    names = ("ratio", "cpu", "latency", "staleness")
    assert {path.name for path in written} == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    for path in written:
        if path.suffix == ".png":
            shades = Image.open(path).convert("L").histogram()
            assert sum(shades[:128]) > 5_000, f"{path.name} is blank"
    first, second = ([plot.inline_svg() for plot in plots.draw(find(run_dir))] for _ in range(2))
    assert first == second


def test_the_report_answers_first_and_describes_every_figure_to_those_who_cannot_see_it(
    run_dir: Path, html: str
) -> None:
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    assert len(labels) == 4 and all(len(label) > 60 for label in labels)
    assert all(html.index(line) < html.index("<figure>") for line in answer.lines(find(run_dir)))
    for word in ("ladder", "void round", "phantom", "dead letter", "crossover", "staleness", "token", "A/A", "drain"):
        assert re.search(f"<dt>[^<]*{word}", html), f"the glossary explains {word}"


def test_the_report_asks_nothing_of_any_other_place_and_refers_only_to_itself(html: str) -> None:
    assert not re.search(r"https?:|//[a-z]", html) and "@import" not in html
    assert set(re.findall(r'(?:src|href)="([^#"][^"]*)"', html)) == {"data:,"}
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)


def test_hostile_names_are_shown_as_text_everywhere(tmp_path: Path) -> None:
    targets = (replace(CRUD, name="a&b <i>"), replace(CQRS, name=HOSTILE, rung="external"))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    report.write_all(folder)
    html = (folder / "report.html").read_text()
    assert not any(mark in html for mark in ("<script", "<i>", "-->")) and "&lt;script&gt;" in html
    assert "[bold]" in printed(tables.render(folder), 200)


def test_a_target_without_pids_has_latency_and_staleness_and_no_verdict(tmp_path: Path) -> None:
    targets = (CRUD, replace(CQRS, name="mine", rung="external", known_cpu=False))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    cell = tables.summary(folder)["cells"][1]
    assert cell["cost"] is None and cell["latency"]["p50"]["samples"] == 100
    assert cell["comparison"]["reason"] == "the CPU of mine was not measured"
    assert "The CPU of mine was not measured" in tables.sentence(folder)
    assert [plot.name for plot in plots.draw(find(folder))] == ["cpu", "latency", "staleness"]
    assert "no data for a figure" in report.write(folder).read_text()


@pytest.mark.parametrize(
    ("changes", "sentence", "note"),
    [
        (
            {"targets": (CRUD, replace(CRUD, name="handlers", rung="handlers")), "rounds": 30},
            "handlers uses as much CPU as crud at every measured read share, within 5%.",
            "equivalent",
        ),
        ({"targets": (CRUD,), "rounds": 5, "operations": 20}, "nothing to compare", "baseline"),
        ({"rounds": 2, "operations": 20}, "inconclusive", "an interval needs 5"),
    ],
    ids=["equal", "alone", "two rounds"],
)
def test_what_is_no_crossover_is_said_so_everywhere(
    tmp_path: Path, changes: dict[str, object], sentence: str, note: str
) -> None:
    folder = write_run(tmp_path / "run", **changes)
    assert sentence in tables.sentence(folder) and note in printed(tables.render(folder))
    assert report.write(folder).stat().st_size > 10_000


def test_a_rung_has_one_colour_by_its_name_alone_and_a_second_instance_another() -> None:
    published = {"noop": "#8c8c8c", "crud": "#0072b2", "handlers": "#009e73", "views": "#cc79a7", "cqrs": "#d55e00"}
    planned = {name: colours.of_rung(name) for name in ("orm", "cache", "replica", "broker", "event-sourced", "search")}
    assert {name: colours.of_rung(name) for name in published} == published
    assert len({*published.values(), *planned.values()}) == 11
    for colour in colours.RUNGS:
        lightness = sum(int(colour[at : at + 2], 16) * w for at, w in ((1, 0.30), (3, 0.59), (5, 0.11)))  # Rec. 601
        assert lightness < 180, f"{colour} is lost on white"
    found = colours.of_targets({"crud": "crud", "crud-2": "crud", "mine": "external", "cqrs": "cqrs"})
    assert found["crud"] == published["crud"] and found["cqrs"] == published["cqrs"] and len(set(found.values())) == 4


@pytest.mark.parametrize(
    ("settings", "asked", "said"),
    [
        ({}, "full", "unknown"),
        ("on", None, "unknown"),
        ({"journal": "on", "sync": "on"}, "full", "full. A crash loses no"),
        ({"journal": "on", "sync": "off"}, "relaxed", "relaxed (sync off). A crash can lose the writes"),
        ({"journal": "on", "sync": "off"}, "full", "reduced (sync off)"),
        ({"journal": "off", "sync": "off"}, None, "reduced (journal, sync off). A crash can lose or corrupt"),
    ],
)
def test_durability_is_that_of_the_recorded_settings_whatever_store_they_are_of(
    run_dir: Path, settings: object, asked: str | None, said: str
) -> None:
    findings = find(run_dir)
    was = findings.run.manifest
    recorded = structs.replace(was.fingerprint, durability=settings)
    was = structs.replace(was, fingerprint=recorded, plan=asked and {"durability": asked})
    line = sentences.durability_line(findings._replace(run=findings.run._replace(manifest=was)))
    assert line.startswith(f"Durability: {said}"), line


def test_nothing_is_said_about_the_durability_of_a_target_that_we_did_not_start(tmp_path: Path) -> None:
    mine, noop = (
        replace(CQRS, name="mine", rung="external"),
        replace(CRUD, name="noop", rung="noop", split={"app": 1.0}),
    )
    said = [
        ((CRUD, mine), "Durability of crud: full. A crash loses no acknowledged write. Durability of mine: unknown."),
        ((noop, mine), "Durability of mine: unknown."),
        ((CRUD, CQRS), "Durability: full. A crash loses no acknowledged write; a lost read store is replayed."),
    ]
    for number, (targets, line) in enumerate(said):
        folder = write_run(tmp_path / f"run {number}", targets=targets, rounds=5, operations=20)
        rewritten(folder, lambda manifest: manifest["fingerprint"].update(durability={"fsync": "on"}))
        assert sentences.durability_line(find(folder)) == line


def test_the_report_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    targets = (CRUD, replace(CQRS, name="it's mine", rung="external"))
    folder = write_run(tmp_path / "run", targets=targets, rounds=5, operations=20)
    command = report.repeat_command(find(folder))
    assert command.startswith("crossover compare --rungs crud --target ")
    assert "--read-shares 50,80,95,99 --rate 300 --size s --profile quick" in command


def test_stale_reads_are_reported_and_their_absence_too(run_dir: Path) -> None:
    crud, cqrs = (sentences.staleness_line(find(run_dir), target) for target in ("crud", "cqrs"))
    assert "no read missed" in crud and "of first reads after the write were stale" in cqrs


def test_a_time_has_two_digits_and_never_an_exponent() -> None:
    assert [sentences.ms(us) for us in (1_234, 34_567, 503_000, 12_345_678)] == [
        "1.2 ms",
        "35 ms",
        "503 ms",
        "12,346 ms",
    ]
