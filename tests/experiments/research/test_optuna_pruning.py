"""The search by Optuna itself: what is behind is given up, and the best is trained to its end."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

import cnnjax as cj  # noqa: E402
from experiments.research import optuna_pruning  # noqa: E402
from experiments.research.optuna_pruning import SearchOptions  # noqa: E402

pytestmark = pytest.mark.thorough


def test_what_is_behind_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = SearchOptions(trials=9, epochs=4, out=str(tmp_path))
    study = optuna_pruning.main(options)
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 9
    assert states[:4] == ["COMPLETE"] * 4
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert pruned
    assert all(len(trial.intermediate_values) < 4 for trial in pruned)
    assert (tmp_path / "trials.png").is_file()
    assert f"best: trial {study.best_trial.number}, " in capsys.readouterr().out
    (axes,) = optuna_pruning.draw(study).axes
    assert [line.get_linestyle() for line in axes.lines].count(":") == len(pruned)

    # The best trial's loss is that of a training of its own.
    best = study.best_trial
    data = cj.data.load("digits", validation=0.2, image_size=(28, 28), channels=1)
    again = optuna_pruning.loss_of(optuna.trial.FixedTrial(best.params), data, 4)
    assert again == best.value


def test_the_idea_is_a_few_lines() -> None:
    lines = inspect.getsource(optuna_pruning.loss_of).splitlines()
    assert len([line for line in lines[2:] if line.strip()]) <= 15
