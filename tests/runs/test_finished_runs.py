"""A run that is finished is given back as it is when it is resumed; its record stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.recipes import Experiment, Options, run_seeds

CONFIG = cj.TrainingConfig(epochs=2, batch_size=32)


def test_a_finished_run_is_not_trained_again_and_its_record_stays(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    data = cj.data.from_arrays(*squares)
    run = cj.fit(model, data, CONFIG, directory=tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    assert len(files) == 4
    capsys.readouterr()
    again = cj.fit(model, data, replace(CONFIG, resume=True), directory=tmp_path)
    assert "finished already, after epoch 2" in capsys.readouterr().out
    assert again.parameter_hash == run.parameter_hash
    assert again.metrics == run.metrics
    assert {path: path.read_bytes() for path in tmp_path.glob("*.json*")} == files


def test_a_finished_run_may_still_be_prolonged(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    data = cj.data.from_arrays(*squares)
    cj.fit(model, data, CONFIG, directory=tmp_path)
    longer = cj.fit(model, data, replace(CONFIG, epochs=3, resume=True), directory=tmp_path)
    assert len(longer.history["epoch"]) == 3


def test_seeds_that_are_finished_are_passed_over(
    squares: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("run.write_report", "run.draw_test", "many.report_seeds"):  # which take longest
        monkeypatch.setattr(f"cnnjax.recipes.{name}", lambda *_: "left out")
    np.savez(
        tmp_path / "squares.npz",
        x_train=squares[0], y_train=squares[1], x_test=squares[0], y_test=squares[1],
    )  # fmt: skip

    def experiment(options: Options) -> Experiment:
        arguments = {"units": (4,)}
        return Experiment("small", "a small net", "mlp", CONFIG, arguments=arguments).with_options(
            options
        )

    options = Options(data=str(tmp_path / "squares.npz"), out=str(tmp_path / "runs"), seeds=2)
    first = run_seeds(experiment, options)
    records = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("run.json")}
    capsys.readouterr()
    more = run_seeds(experiment, replace(options, seeds=3, resume=True))
    out = capsys.readouterr().out
    assert out.count("finished already, after epoch 2") == 2
    assert out.count("epoch 1/2") == 1  # of the third seed
    assert [run.parameter_hash for run in more[:2]] == [run.parameter_hash for run in first]
    assert {path: path.read_bytes() for path in records} == records
