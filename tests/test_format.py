"""The format of the results: its documentation follows its definition, and earlier runs stay readable."""

from pathlib import Path

import polars as pl
import pytest

from analysis.findings import find
from loadtests.format import written_into

RESULTS = Path(__file__).parent.parent / "results"
PUBLISHED = sorted(path.parent for path in (RESULTS / "published").glob("*/manifest.json"))


def test_the_readme_of_the_results_has_the_tables_of_the_format() -> None:
    text = (RESULTS / "README.md").read_text("utf-8")
    assert text == written_into(text), "run: python -m loadtests.format"


@pytest.mark.parametrize("folder", [path for path in PUBLISHED if path.name.endswith(("quick", "gate-same"))])
def test_a_published_run_gives_figures(folder: Path) -> None:
    findings = find(folder)
    assert not findings.run.samples.is_empty() and findings.costs["cpu_us"].null_count() == 0


def test_a_run_from_before_a_column_came_is_read_with_nulls(tmp_path: Path) -> None:
    from analysis.runs import read_table
    from tests.synthetic_runs import write_run

    run = write_run(tmp_path / "run", rounds=1)
    files = [path.relative_to(run).as_posix() for path in run.rglob("slices.parquet")]
    for name in files:
        pl.read_parquet(run / name).drop("cell", "refused").write_parquet(run / name)
    assert read_table(run, files, "slices")["refused"].is_null().all()
