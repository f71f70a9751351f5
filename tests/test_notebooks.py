"""The notebooks are readable as text, explain instead of computing, show no blank picture and go red on broken data."""

import base64
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from nbformat import NotebookNode

HOME = Path(__file__).parent.parent
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))


def read(notebook: Path) -> "NotebookNode":
    import nbformat  # three seconds of CPU, which every worker would pay for collecting this file

    return nbformat.read(notebook, 4)


def cells(notebook: Path, kind: str) -> "list[NotebookNode]":
    return [cell for cell in read(notebook).cells if cell.cell_type == kind]


def execute(notebook: Path) -> None:
    from nbclient import NotebookClient

    NotebookClient(read(notebook), resources={"metadata": {"path": str(notebook.parent)}}, timeout=600).execute()


def test_there_are_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_beside_a_notebook_is_the_notebook(notebook: Path) -> None:
    import jupytext

    text = jupytext.read(notebook.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in read(notebook).cells]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_define_nothing(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        lines = [
            line for line in cell.source.splitlines() if line.strip() and not line.startswith(("import ", "from "))
        ]
        assert len(lines) <= 5, cell.source
        assert not any(line.lstrip().startswith(("def ", "class ", "async def ")) for line in lines), cell.source


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_kept_outputs_hold_no_error_no_path_of_a_machine_and_no_blank_picture(notebook: Path) -> None:
    outputs = [output for cell in cells(notebook, "code") for output in cell.outputs]
    assert outputs, "outputs are kept"
    assert not any(output.output_type == "error" for output in outputs)
    assert str(HOME) not in notebook.read_text("utf-8")
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures or notebook.stem == "01_same_answers"
    for picture in pictures:
        shades = Image.open(io.BytesIO(base64.b64decode(picture))).convert("L").histogram()
        assert sum(shades[:128]) > 1_000


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(notebook: Path) -> None:
    execute(notebook)


def test_a_damaged_run_turns_a_notebook_red(tmp_path: Path) -> None:
    shutil.copytree(HOME / "notebooks", tmp_path / "notebooks")
    shutil.copytree(HOME / "results" / "published", tmp_path / "results" / "published")
    for samples in tmp_path.glob("results/published/*/rounds/*/slices.parquet"):
        samples.write_bytes(samples.read_bytes()[:-1])
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="truncated or changed"):
        execute(tmp_path / "notebooks" / "02_reads_and_writes.ipynb")
