"""The notebooks run from top to bottom as they are."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.thorough

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"


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


CELLS = """
import numpy as np
import cnnjax as cj
from cnnjax import plot
HISTORY = {"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.5, 0.75]}
---
plot.curves(HISTORY)
---
figure = plot.curves(HISTORY)
---
%matplotlib inline
plot.curves(HISTORY)
---
cj.create_model("mnist_convnet")
---
cj.data.load("digits")
---
%load_ext cnnjax
cj.create_model("mnist_konvnet")
"""


def test_a_fresh_kernel_shows_figures_once_values_and_short_errors(tmp_path):
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in CELLS.split("---")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    _, shown, kept, inline, model, data, wrong = [cell.outputs for cell in notebook.cells]
    assert kept == []
    for outputs in (shown, inline):
        assert [list(output.data).count("image/png") for output in outputs] == [1]
    for outputs, text in ((model, "conv1"), (data, "data:image/png;base64,")):
        assert [text in output.data["text/html"] for output in outputs] == [True]
    (error,) = wrong
    assert error.output_type == "error"
    assert "Did you mean" in error.evalue
    assert not any("cnnjax/models" in line for line in error.traceback)
