"""The notebooks are readable as text, explain instead of computing, show no blank picture and go red on broken data."""

import base64
import io
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

HOME = Path(__file__).parent.parent
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == kind]


def test_there_are_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_beside_a_notebook_is_the_notebook(notebook: Path) -> None:
    text = jupytext.read(notebook.with_suffix(".py"))
    kept = nbformat.read(notebook, 4)
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in kept.cells]


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


def test_a_damaged_run_turns_a_notebook_red(tmp_path: Path) -> None:
    shutil.copytree(HOME / "notebooks", tmp_path / "notebooks")
    shutil.copytree(HOME / "results" / "published", tmp_path / "results" / "published")
    for samples in tmp_path.glob("results/published/*/rounds/*/slices.parquet"):
        samples.write_bytes(samples.read_bytes()[:-1])
    notebook = nbformat.read(tmp_path / "notebooks" / "02_reads_and_writes.ipynb", 4)
    with pytest.raises(CellExecutionError, match="truncated or changed"):
        NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path / "notebooks")}}, timeout=600).execute()
