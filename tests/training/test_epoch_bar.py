"""Bars where somebody sees them; in a notebook one within an epoch that takes long."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from commands import ROOT, environment
from nbclient import NotebookClient

import cnnjax as cj
from cnnjax.training import epoch_bar
from cnnjax.training.epoch_bar import Progress

Arrays = tuple[np.ndarray, np.ndarray]
MEANS = {"loss": 0.5, "accuracy": 0.25}


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were a kernel, in which every epoch takes long."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(epoch_bar, "_NOTEBOOK_SECONDS", -1.0)
    monkeypatch.setattr(epoch_bar, "_REDRAW_SECONDS", -1.0)


@pytest.mark.usefixtures("notebook")
def test_a_notebook_has_a_bar_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, 40, 8) as progress:
        progress.start_epoch(1, 0)
        assert progress.due()
        progress.update(10, MEANS)
        progress.update(20, MEANS)
        progress.end_epoch("epoch 2/3  done")
        progress.start_epoch(2, 0)
        progress.update(4, MEANS)
    out, err = capsys.readouterr()
    assert err == ""
    assert "epoch 2/3:  50%" in out
    assert "20/40" in out
    assert "loss 0.5000  acc 0.2500" in out
    assert "\repoch 2/3  done\n" in out  # in the place of the bar
    assert "epoch 3/3:  10%" in out


@pytest.mark.usefixtures("notebook")
def test_a_short_epoch_has_a_line_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_bar, "_NOTEBOOK_SECONDS", 60.0)
    with Progress(1, 40, 8) as progress:
        progress.start_epoch(0, 0)
        progress.update(10, MEANS)
        progress.end_epoch("epoch 1/1  done")
    assert capsys.readouterr() == ("epoch 1/1  done\n", "")


@pytest.mark.usefixtures("notebook")
def test_a_bar_in_a_notebook_changes_no_bit(
    squares: Arrays, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=2, batch_size=8)
    shown = cj.fit(model, squares, config)
    assert "epoch 2/2: " in capsys.readouterr().out
    assert shown.parameter_hash == cj.fit(model, squares, config, verbose=False).parameter_hash


@pytest.mark.thorough
def test_in_a_kernel_nothing_goes_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
    from cnnjax.training import epoch_bar
    epoch_bar._NOTEBOOK_SECONDS = epoch_bar._REDRAW_SECONDS = -1.0
    with epoch_bar.Progress(1, 4, 8) as progress:
        progress.start_epoch(0, 0)
        progress.update(2, {"loss": 0.5, "accuracy": 0.25})
        progress.end_epoch("epoch 1/1  done")
    """
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    cell = nbformat.v4.new_code_cell("\n".join(line[4:] for line in code.splitlines()))
    book = nbformat.v4.new_notebook(cells=[cell])
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(book, timeout=120, kernel_name="python3", resources=resources).execute()
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    assert {output.name for output in streams} == {"stdout"}
    text = "".join(output.text for output in streams)
    assert text.endswith("epoch 1/1  done\n")
    assert "50%" in text or any(o.output_type == "display_data" for o in cell.outputs)
