"""The notebooks run from top to bottom as they are."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.thorough

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    warnings = [
        o.text
        for cell in code
        for o in cell.outputs
        if o.output_type == "stream" and o.name == "stderr"
    ]
    assert not warnings
    accuracy = [
        ast.literal_eval(o.data["text/plain"])[0]["test_accuracy"]
        for cell in code
        for o in cell.outputs
        if o.output_type == "execute_result" and "best_epoch" in cell.source
    ]
    assert all(a > 0.9 for a in accuracy)
    assert path.stem != "first_steps" or accuracy
