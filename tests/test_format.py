"""The format of the results: its definition describes all of it, and earlier runs stay readable."""

import re
from pathlib import Path

import polars as pl
import pytest

from analysis.findings import find
from loadtests.format import DEFINITION, TABLES, Conformance, Fingerprint, Ledger, Manifest

RESULTS = Path(__file__).parent.parent / "results"
PUBLISHED = sorted(path.parent for path in (RESULTS / "published").glob("*/manifest.json"))


def test_every_field_and_column_is_defined_with_its_meaning() -> None:
    manifest = DEFINITION.partition("## manifest.json")[2]
    fields = re.findall(r"^\| `(\w+)` \| .+ \|$", manifest, re.MULTILINE)
    assert {*fields} == {*Manifest.__struct_fields__}
    for part in (Fingerprint, Conformance, Ledger):
        assert [name for name in part.__struct_fields__ if f"`{name}`" not in manifest] == []
    rows = [line for line in DEFINITION.partition("## manifest.json")[0].splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(table.schema) for table in TABLES.values())
    assert all(re.fullmatch(r"\| `\w+` \| \w+\?? \| .+ \|", row) for row in rows)


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
