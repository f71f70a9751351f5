"""What CI reads says the same as the table: Markdown, JSON of github-action-benchmark, JUnit."""

import json
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import ci, report, tables
from analysis.runs import UnusableRun
from tests.synthetic_runs import CQRS, CRUD, printed, write_run
from tests.test_gate import run as gate_run

BENCHMARKS = {"benchmarks": [{"fullname": "b::one", "stats": {"median": 0.5, "stddev": 0.1, "rounds": 3}}]}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    hostile = {"targets": (CRUD, replace(CQRS, name="cq|rs<b>")), "read_shares": (50.0, 99.0)}
    compared = write_run(tmp_path / "compared", rounds=10, operations=100, **hostile)
    runs = [compared, gate_run(tmp_path / "worse", head=1.1), gate_run(tmp_path / "few", rounds=3, restarts=1)]
    (tmp_path / "benchmarks.json").write_text(json.dumps(BENCHMARKS))
    ci.write(runs, tmp_path / "out", benchmarks=tmp_path / "benchmarks.json")
    return tmp_path / "out"


def test_worse_fails_and_inconclusive_is_skipped_with_its_reason(written: Path) -> None:
    compared, worse, few = xml.parse(written / "verdicts.xml").getroot()
    counts = [[suite.get(name) for name in ("tests", "failures", "skipped")] for suite in (compared, worse, few)]
    assert counts == [["2", "1", "0"], ["1", "1", "0"], ["1", "0", "1"]]
    assert compared[0].get("name") == "cq|rs<b> against crud at 50% reads" and compared[0].find("failure") is not None
    assert "too little data" in str(few[0][0].get("message"))


def test_the_summary_leads_with_the_answers_and_no_name_becomes_markup(written: Path) -> None:
    text = (written / "summary.md").read_text()
    assert "**cq\\|rs\\<b\\> uses less CPU than crud above" in text and "**worse: head (crud@bbb)" in text
    table = [line for line in text.splitlines() if line.startswith("| 50%")]
    assert len(table) == 2 and {line.replace("\\|", "").count("|") for line in table} == {6}
    assert "| b::one | 500.000 ms | 100.000 ms |  |" in text


def test_the_json_is_what_the_benchmark_action_reads(written: Path) -> None:
    entries = json.loads((written / "benchmarks.json").read_text())
    assert all({"name", "unit", "value"} <= entry.keys() and entry["value"] > 0 for entry in entries)
    assert all(isinstance(entry.get("range", ""), str) and isinstance(entry["extra"], str) for entry in entries)
    assert len({entry["name"] for entry in entries if "compare" in entry["name"]}) == 6
    (ratio,) = (entry for entry in entries if entry["name"] == "compare shop 99% reads: cq|rs<b> over crud")
    assert 0.2 < ratio["value"] < 0.6 and " to " in ratio["range"]


def test_what_is_no_benchmark_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    found = gate_run(tmp_path / "run", rounds=3, restarts=1)
    (tmp_path / "bad.json").write_text('{"benchmarks": [1')
    for file, says in (("bad.json", "is not what `pytest"), ("none.json", "cannot be read")):
        with pytest.raises(UnusableRun, match=says):
            ci.write([found], tmp_path / "out", benchmarks=tmp_path / file)
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_text_are_shown_as_escapes_everywhere(tmp_path: Path) -> None:
    named = write_run(tmp_path / "run", rounds=5, targets=(CRUD, replace(CQRS, name="cq\x00\x1b[31m\u202ers\n")))
    shown = r"cq\x00\x1b[31m\u202ers\n"
    ci.write([named], tmp_path / "out")
    suite = xml.parse(tmp_path / "out" / "verdicts.xml").getroot()[0]
    assert str(suite[0].get("name")).startswith(f"{shown} against crud")
    printed_table, page = printed(tables.render(named)), report.write(named).read_text()
    texts = [printed_table, page, *(file.read_text() for file in (tmp_path / "out").iterdir())]
    assert shown in printed_table.replace("\n", "") and shown in page
    assert not [text for text in texts for mark in text if not mark.isprintable() and mark != "\n"]
