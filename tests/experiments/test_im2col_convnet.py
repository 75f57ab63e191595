"""simple_convnet and its twin in NumPy: initial scales, one training, files, the benchmark."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image
from threadpoolctl import threadpool_limits

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.runs.results import collect
from cnnjax.training import NonFiniteLoss
from experiments import _numpy_net, im2col_convnet
from experiments.benchmarks import im2col_speed
from experiments.benchmarks.conv_engines import Conv, program

pytestmark = pytest.mark.thorough

# Fans of the kernels, by hand: 5x5 windows of 1 channel to 30; 12x12x30 values to 100; 100 to 10.
FANS = {"conv1": (25, 25 * 30), "dense1": (4320, 100), "logits": (100, 10)}
SPREADS: dict[str, Callable[[int, int], float]] = {
    "normal": lambda fan_in, fan_out: 0.01,
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """NumPy's threads wait for each other for long where other tests run beside them."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> im2col_convnet.Result:
    """He's spread, two epochs of the digits; fewer entries are compared with differences."""
    out = tmp_path_factory.mktemp("im2col") / "run"
    config = im2col_convnet.Config(init="he", epochs=2, data="digits", out=str(out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_numpy_net, "ENTRIES", 12)
        return im2col_convnet.main(config)["he"][0]


def numpy_parameters(model: cj.Model) -> _numpy_net.Parameters:
    return {path: np.array(leaf) for path, leaf in trees.flatten(model.params).items()}


@pytest.mark.parametrize(
    "initializer",
    [pytest.param(n, marks=[] if n == "he" else pytest.mark.thorough) for n in SPREADS],
)
def test_kernels_begin_with_the_spread_asked_for_and_biases_with_zero(initializer: str) -> None:
    draws = [cj.create_model("simple_convnet", initializer=initializer, seed=s) for s in range(4)]
    for layer, fans in FANS.items():
        kernels = np.stack([draw.params[layer]["kernel"] for draw in draws])
        wanted = SPREADS[initializer](*fans)
        # The deviation of n normal values is off by 1 / sqrt(2 n); four of these are allowed.
        assert kernels.std() == pytest.approx(wanted, rel=4 / math.sqrt(2 * kernels.size))
        assert abs(kernels.mean()) < 4 * wanted / math.sqrt(kernels.size)
        assert np.abs(kernels).max() > 2.5 * wanted  # not cut off
        assert not any(np.any(draw.params[layer]["bias"]) for draw in draws)


def test_an_unknown_spread_is_refused() -> None:
    message = "initializer must be one of 'normal', 'he', 'xavier', got 'lecun'"
    with pytest.raises(ValueError, match=message):
        cj.create_model("simple_convnet", initializer="lecun")


def test_it_learns_the_digits(trained: im2col_convnet.Result) -> None:
    accuracies = [record["test_accuracy"] for record in trained.facts["epochs"]]
    assert accuracies[-1] > 0.9
    assert trained.losses[0] == pytest.approx(math.log(10), rel=0.3)
    assert len(trained.losses) == 2 * 15  # 1,438 images, the last batch of 38


def test_its_gradients_are_those_of_differences_and_of_jax(trained: im2col_convnet.Result) -> None:
    gradients = trained.facts["gradients"]
    assert set(gradients["numerical"]) == set(gradients["jax"]) - {"loss", "logits"}
    assert len(gradients["numerical"]) == 6
    for row in gradients["numerical"].values():
        assert row["error"] < 1e-6
        assert row["entries"] > row["kinks"]
    assert max(gradients["jax"].values()) < 1e-12


def test_a_kink_has_no_slope() -> None:
    params = numpy_parameters(cj.create_model("simple_convnet"))
    params = {path: value.astype(np.float64) for path, value in params.items()}
    black, label = np.zeros((1, 28, 28, 1)), np.array([3])
    # All of a black image stands at the bias, zero, where ReLU bends.
    assert _numpy_net.slope(params, black, label, "conv1/bias", 0) is None
    params["conv1/bias"] += 0.1
    assert _numpy_net.slope(params, black, label, "conv1/bias", 0) is not None


def test_its_files_load_into_both_nets(trained: im2col_convnet.Result) -> None:
    again = trained.facts["reloaded"]
    assert again["bitwise"]
    assert again["logits"] < 1e-5
    assert again["other_predictions"] == 0
    model = cj.create_model("simple_convnet", weights=trained.folder / "weights.npz")
    test = cj.data.load("digits").test
    assert test is not None
    means = cj.evaluate(model, test)
    assert means["accuracy"] == pytest.approx(trained.facts["test_accuracy"])


def test_results_and_images_are_in_the_run_directory(trained: im2col_convnet.Result) -> None:
    assert trained.folder.name == "numpy"
    stored = json.loads((trained.folder / "results.json").read_text())
    assert stored["losses"] == trained.losses
    assert stored["test_accuracy"] == trained.facts["test_accuracy"]
    image = Image.open(trained.folder / "training.png")
    assert np.asarray(image.convert("L")).std() > 5
    (result,) = collect([trained.folder.parent])
    assert result.key == ("simple_convnet/he", "epochs=2", "digits train")
    assert result.values("test_accuracy") == [trained.facts["jax_test_accuracy"]]


@pytest.mark.parametrize(
    ("optimizer", "rate", "decay", "schedule"),
    [
        ("adam", 1e-3, 0.0, "cosine"),
        ("adamw", 1e-3, 20.0, "cosine"),
        ("sgd", 0.1, 0.0, "cosine"),
        ("adam", 1e-3, 0.0, "constant"),
    ],
)
def test_it_takes_the_steps_that_fit_takes(
    optimizer: Any, rate: float, decay: float, schedule: Any
) -> None:
    digits = cj.data.load("digits")
    few = digits.train.subset(slice(0, 130))
    splits = cj.data.Splits(few, test=few)
    config = im2col_convnet.Config(
        init="he", seed=3, epochs=1, batch_size=50, optimizer=optimizer, learning_rate=rate,
        weight_decay=decay, schedule=schedule,
    )  # fmt: skip
    plan = im2col_convnet.experiment(config)
    model = cj.create_model("simple_convnet", initializer="he", seed=3)
    params = numpy_parameters(model)
    before = numpy_parameters(model)
    (record,), losses = im2col_convnet.train(params, splits, config)
    run = cj.fit(model, splits, plan.training, verbose=False)
    assert len(losses) == 3
    assert record["loss"] == pytest.approx(run.history["loss"][0], rel=1e-5)
    assert record["accuracy"] == run.history["accuracy"][0]
    for path, expected in trees.flatten(run.model.params).items():
        taken = np.abs(np.asarray(expected) - before[path]).max()
        np.testing.assert_allclose(params[path], expected, atol=0.01 * taken, err_msg=path)


def test_a_decay_of_another_optimiser_is_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay belongs to 'adamw', got optimizer='sgd'"):
        _numpy_net.make_optimizer("sgd", 0.1)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    few = cj.data.load("digits").train.subset(slice(0, 200))
    config = im2col_convnet.Config(epochs=3, optimizer="sgd", learning_rate=1e30)
    params = numpy_parameters(cj.create_model("simple_convnet", initializer="he"))
    with (
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteLoss, match=r"loss became .* in epoch 1, step 2 .*it was 1e\+30"),
    ):
        im2col_convnet.train(params, cj.data.Splits(few, test=few), config)


def test_all_spreads_in_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_one(config: im2col_convnet.Config) -> im2col_convnet.Result:
        assert config.out == str(tmp_path / config.init / f"seed{config.seed}")
        losses = list(np.linspace(2.3, 0.1, 20))
        return im2col_convnet.Result(tmp_path, losses, {"test_accuracy": 0.9 + config.seed / 100})

    monkeypatch.setattr(im2col_convnet, "run_one", run_one)
    found = im2col_convnet.main(
        im2col_convnet.Config(init="all", seed=1, seeds=2, epochs=2, out=str(tmp_path))
    )
    assert {init: len(results) for init, results in found.items()} == dict.fromkeys(SPREADS, 2)
    image = Image.open(tmp_path / "inits.png")
    assert np.asarray(image.convert("L")).std() > 5


def test_the_benchmark_measures_three_times_the_same_work(
    capsys: pytest.CaptureFixture,
) -> None:
    conv = Conv("tiny", "conv", (2, 6, 7, 3), (3, 3, 3, 4), strides=2)
    inputs, kernel, cotangent = im2col_speed.arrays(conv)
    y, (dx, dkernel, _) = im2col_speed.by_hand(conv, inputs, kernel, cotangent)
    for engine in ("im2col", "lax"):
        expected, gradients = program(conv, engine, training=True)(inputs, kernel, cotangent)
        for ours, theirs in zip((y, dx, dkernel), (expected, *gradients), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    im2col_speed.report(conv, rounds=1)
    lines = capsys.readouterr().out.split("\n")
    assert [line.split()[:1] for line in lines[2:5]] == [["NumPy"], ["im2col"], ["lax"]]
    assert "NumPy / lax: " in lines[4]


@pytest.mark.parametrize("kind", [im2col_convnet.Config, im2col_speed.Config])
def test_help_explains_every_option(kind: type, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    out = capsys.readouterr().out
    for field in dataclasses.fields(kind):
        assert f"--{field.name.replace('_', '-')}" in out


@pytest.mark.slow
def test_mnist_is_learned(tfds_dir: Path, tmp_path: Path) -> None:
    """98.84 and 98.83 % were measured; another order of additions moves that by less than .1."""
    config = im2col_convnet.Config(data_dir=str(tfds_dir), out=str(tmp_path / "run"))
    (result,) = im2col_convnet.main(config)["normal"]
    assert result.facts["test_accuracy"] >= 0.987
    assert result.facts["jax_test_accuracy"] >= 0.987
