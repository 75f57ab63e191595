"""`cnnjax train`: recipes and models by name, settings as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import python

import cnnjax as cj
from cnnjax.config import TrainingConfig
from cnnjax.recipes import Experiment, known, many
from cnnjax.recipes.shipped import mnist_convnet

Output = tuple[str, str]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quikstart"], "there is no recipe or model 'quikstart'. Did you mean 'quickstart'?"),
        (["mlpp"], "there is no recipe or model 'mlpp'. Did you mean 'mlp'?"),
        (["quickstart", "learing_rate=1"], "no setting 'learing_rate'. Did you mean 'learning_"),
        (["quickstart", "augment.zom=1"], "augment has no setting 'zom'. Did you mean 'zoom'?"),
        (["quickstart", "epochs=x"], "epochs must be a whole number, got 'x'"),
        (["quickstart", "batch_size=x"], "batch_size must be a whole number >= 1, got 'x'"),
        (["quickstart", "seeds=two"], "seeds must be a whole number, got 'two'"),
        (["quickstart", "epochs"], "a setting is NAME=VALUE, e.g. epochs=3, got 'epochs'"),
        (["quickstart", "epochs=1", "epochs=2"], "epochs is given twice: '1' and '2'"),
        (["quickstart", "--seed", "1", "seed=2"], "seed is given twice: 1 and 2"),
        (["quickstart", "--recipe", "tuned"], "quickstart has one recipe only"),
        (["quickstart", "--weights", "x.h5"], "weights is for a model by its name"),
        (["mnist_convnet", "--recipe", "best"], "recipe must be one of reported, tuned, got 'be"),
        (["cifar10", "model=dep"], "model must be one of plain, deep, got 'dep'"),
        (["mlp"], "which data? Give mlp --data FOLDER, a file or the name of a data set"),
        (["quickstart", "lr=1"], "there is no setting 'lr'. Here it is learning_rate="),
        (["quickstart", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["quickstart", "rate_factors=conv1"], "must be pairs of a pattern and a factor"),
        (["mlp", "--data", "digits", "--recipe", "tuned"], "is for a recipe, one of cats_vs_dogs"),
        (["mlp", "--data", "digits", "--freeze", "a", "frozen=b"], "say the same: give one"),
    ],
)
def test_what_cannot_be_honoured_is_one_line(
    cnnjax: Callable[..., Output], arguments: list[str], words: str
) -> None:
    out, err = cnnjax("train", *arguments, status=1)
    assert words in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert out == ""


def test_help_explains_every_setting_and_shows_those_of_the_recipe(
    cnnjax: Callable[..., Output],
) -> None:
    out, _ = cnnjax("train", "--help")
    for name in (*TrainingConfig.__dataclass_fields__, "augment.zoom"):
        assert f"\n  {name}=" in out
    for name in known.names():
        assert f"\n{name} " in out
    assert "passes over the training data, >= 1." in out
    assert "\n  epochs=5\n" in out
    out, _ = cnnjax("train", "cifar10", "--help")
    assert "\n  epochs=20\n" in out
    assert "options of cifar10: model=plain|deep, augment=none|reported|mild|flip|crops" in out


def test_a_model_learns_data_of_a_file_with_settings_of_the_command(
    cnnjax: Callable[..., Output], tmp_path: Path
) -> None:
    test = cj.data.load("digits").test
    assert test
    np.savez(tmp_path / "own.npz", images=np.asarray(test.inputs), labels=test.labels)
    out, _ = cnnjax(
        "train", "mlp", "--data", tmp_path / "own.npz", "--out", tmp_path / "run",
        "epochs=2", "--seed", "3", "units=16", "schedule=constant", "learning_rate=1e-2",
    )  # fmt: skip
    assert "mlp test accuracy" in out
    config = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert (config["epochs"], config["seed"], config["learning_rate"]) == (2, 3, 0.01)
    assert (config["schedule"], config["optimizer"]) == ("constant", "adamw")
    assert (tmp_path / "run" / "report.html").is_file()
    assert cj.load(tmp_path / "run").spec.arguments["units"] == (16,)


def test_a_recipe_is_recorded_with_what_was_changed(
    cnnjax: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Experiment] = []
    monkeypatch.setattr(many, "run_experiment", lambda plan, *_, **__: plans.append(plan))
    cnnjax(
        "train", "mnist_convnet", "--recipe", "tuned", "--data", "digits", "epochs=1",
        "batch_size=512", "augment.zoom=0.1", "--seed", "4",
    )  # fmt: skip
    cnnjax("train", "cats_vs_dogs", "cure=augmented", "seed=7")
    tuned, cats = plans
    usual = mnist_convnet.RECIPES["tuned"]
    augment = replace(usual.augment, zoom=0.1)
    assert tuned.changed == {"epochs": 1, "batch_size": 512, "augment.zoom": 0.1}
    assert tuned.training == replace(usual, seed=4, epochs=1, batch_size=512, augment=augment)
    assert (tuned.name, tuned.recipe, tuned.data) == ("mnist_convnet", "tuned", "digits")
    assert (cats.name, cats.changed, cats.training.seed) == ("cats_vs_dogs/augmented", {}, 7)


@pytest.mark.thorough
def test_a_head_is_trained_on_weights_of_a_file_and_more_where_it_is_asked_for(
    cnnjax: Callable[..., Output], tmp_path: Path
) -> None:
    test = cj.data.load("digits").test
    assert test
    few = test.labels < 2  # other classes than those of the weights
    np.savez(tmp_path / "own.npz", images=np.asarray(test.inputs)[few], labels=test.labels[few])
    base = cj.create_model("mlp", units=(8,))
    cj.export_weights(base, tmp_path / "base.npz")
    asked = ("train", "mlp", "--data", tmp_path / "own.npz", "units=8,", "epochs=1")
    weights = ("--weights", tmp_path / "base.npz")
    kernels = {}
    for name, more in (("head", ()), ("whole", ("--freeze", "none"))):
        out, _ = cnnjax(*asked, *weights, *more, "--out", tmp_path / name)
        assert ("all but the head stays as it is" in out) == (name == "head")
        kernels[name] = np.asarray(cj.load(tmp_path / name).params["dense1"]["kernel"])
        config = json.loads((tmp_path / name / "config.json").read_text())["training"]
        assert config["learning_rate"] == (1e-2 if name == "head" else 1e-4)
    before = np.asarray(base.params["dense1"]["kernel"])
    np.testing.assert_array_equal(kernels["head"], before)
    assert not np.array_equal(kernels["whole"], before)
    record = json.loads((tmp_path / "head" / "run.json").read_text())
    assert record["base"]["weights"] == "base.npz"


@pytest.mark.slow
def test_the_quickstart_runs_as_a_command_of_its_own(tmp_path: Path) -> None:
    done = python("-m", "cnnjax", "train", "quickstart", "epochs=1", cwd=tmp_path)
    assert "mnist_convnet test accuracy" in done.stdout
