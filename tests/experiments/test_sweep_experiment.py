"""`python -m experiments.sweep` trains all, compares and draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import sweep

pytestmark = pytest.mark.thorough


def options(folder: Path, **changes: object) -> sweep.SweepOptions:
    values = {"model": "mlp", "epochs": 2, "seeds": 2, "batch_size": 256, "out": str(folder)}
    return sweep.SweepOptions(**{**values, **changes})


def test_settings_are_compared_in_a_table_and_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(tmp_path, learning_rates=(1e-3, 1e-5), dropouts=(0.0,))
    found = sweep.main(asked)
    assert found.best() == {"learning_rate": 1e-3, "dropout": 0.0}
    assert str(found) in capsys.readouterr().out
    assert (tmp_path / "sweep.txt").read_text() == f"{found}\n"
    assert (tmp_path / "sweep.png").is_file()
    assert (tmp_path / "learning_rate=1e-05,dropout=0.0" / "seed1" / "run.json").is_file()
    axes = sweep.draw(found).axes
    assert [axis.get_ylabel() for axis in axes] == ["loss", "accuracy"]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["learning rate 0.001, dropout 0", "learning rate 1e-05, dropout 0"]


def test_of_a_single_setting_training_and_validation_are_drawn(tmp_path: Path) -> None:
    found = sweep.main(options(tmp_path, epochs=1))
    labels = [text.get_text() for text in sweep.draw(found).axes[1].get_legend().get_texts()]
    assert labels == ["training", "validation"]
    assert sweep.main(options(tmp_path, epochs=1, resume=True)).runs[0][0].seconds > 0
