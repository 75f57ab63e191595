"""The studies of architectures: what they compare, their columns, tables and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import keras
import numpy as np
import pytest
import tyro
from keras import layers
from PIL import Image

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models.zoo.small import MnistConvnet
from cnnjax.plot import figures
from cnnjax.recipes import mean_curve
from cnnjax.recipes.shipped import cifar10
from cnnjax.runs import RunError
from cnnjax.runs.results import Claim, Measured, Result, evaluate, read_claims
from cnnjax.training import Run
from experiments import (
    _studies,
    activation_choice,
    cifar_choices,
    dense_head,
    downsampling,
    pooling_head,
    separable,
    training_size,
)
from experiments.benchmarks import depthwise
from experiments.benchmarks.conv_engines import Conv

pytestmark = pytest.mark.thorough

# The options of the nets that the studies vary


def keras_base(name: str, activation: str) -> list:
    """The convolutions of the two nets, as SYSTEMS.md writes them."""
    conv, pool = layers.Conv2D, layers.MaxPooling2D
    if name == "mnist_convnet":
        return [
            conv(32, 3, activation=activation),
            pool(2),
            conv(64, 3, activation=activation),
            pool(2),
            conv(64, 3, activation=activation),
        ]
    return [
        conv(32, 3, padding="same", activation=activation),
        conv(32, 3, padding="same", activation=activation),
        pool(2),
        conv(64, 3, padding="same", activation=activation),
        conv(64, 3, activation=activation),
        pool(2),
    ]


HEADS = {
    None: ("flatten", layers.Flatten),
    "avg": ("global_average_pooling", layers.GlobalAveragePooling2D),
    "max": ("global_max_pooling", layers.GlobalMaxPooling2D),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "activation", "pooling", "parameters"),
    [
        ("mnist_convnet", "sigmoid", None, 93_322),
        ("mnist_convnet", "tanh", "avg", 93_322 - 8 * 64 * 64),
        ("mnist_convnet", "relu", "max", 93_322 - 8 * 64 * 64),
        ("cifar_deep", "relu", "avg", 1_676_842 - 48 * 64 * 512),
    ],
)
def test_other_activations_and_poolings_are_kerass(
    name: str, activation: str, pooling: str | None, parameters: int
) -> None:
    chosen = {"pooling": pooling} | ({"activation": activation} if name != "cifar_deep" else {})
    model = cj.create_model(name, seed=1, **chosen)
    layer_name, kind = HEADS[pooling]
    assert layer_name in model.layer_names
    assert cj.summary(model).parameters == parameters
    width = 64 if name == "mnist_convnet" else 512
    head = [kind(), layers.Dense(width, activation), layers.Dense(10)]
    with jax.numpy_rank_promotion("allow"):
        net = keras.Sequential(
            [keras.Input(model.spec.input_shape), *keras_base(name, activation), *head]
        )
    owners = [path for path in model.layer_names if path in model.params]
    for path, layer in zip(owners, [x for x in net.layers if x.weights], strict=True):
        layer.set_weights([model.params[path]["kernel"], model.params[path]["bias"]])
    x = np.random.default_rng(0).random((3, *model.spec.input_shape), np.float32)
    with jax.numpy_rank_promotion("allow"):
        expected = net(x, training=False)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=2e-6)


def test_the_defaults_are_what_they_were(tmp_path: Path) -> None:
    model = cj.create_model("mnist_convnet")
    assert cj.summary(model).parameters == 93_322
    assert model.layer_names == (
        "conv1", "pool1", "conv2", "pool2", "conv3", "flatten", "dense1", "logits",
    )  # fmt: skip
    said = cj.create_model("mnist_convnet", activation="relu", pooling=None, downsampling="max")
    assert trees.tree_hash(said.variables) == trees.tree_hash(model.variables)
    # The activation decides no parameter: nets that differ in it start from the same ones.
    other = cj.create_model("mnist_convnet", activation="tanh")
    assert trees.tree_hash(other.variables) == trees.tree_hash(model.variables)
    cj.save(model, tmp_path / "model")
    # A model that was saved before there were these options knows nothing of them.
    assert '"arguments": {}' in (tmp_path / "model" / "model.json").read_text()
    loaded = cj.load(tmp_path / "model")
    assert trees.tree_hash(loaded.variables) == trees.tree_hash(model.variables)
    assert (loaded.module.activation, loaded.module.pooling) == ("relu", None)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "mnist_convnet",
            {"activation": "gelu"},
            "activation must be one of 'relu', 'sigmoid', 'tanh', got 'gelu'",
        ),
        ("mnist_convnet", {"pooling": "mean"}, "pooling must be None, 'avg' or 'max', got 'mean'"),
        ("cifar_deep", {"pooling": True}, "pooling must be None, 'avg' or 'max', got True"),
        ("cifar_deep", {"activation": "tanh"}, "'cifar_deep' has no argument 'activation'"),
        ("vgg16", {"pooling": "avg"}, "pooling='avg' is for a model with include_top=False"),
    ],
)
def test_options_that_cannot_be_are_named(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cj.create_model(name, **arguments)


def test_a_module_alone_names_a_wrong_pooling_too() -> None:
    with pytest.raises(ValueError, match="pooling must be None, 'avg' or 'max', got 'mean'"):
        cj.Model.from_module(MnistConvnet(pooling="mean"), (28, 28, 1))


# Columns and tables


def fake(validation: Sequence[float], seconds: Sequence[float] = (9.0, 2.0, 1.0)) -> Run:
    model = cj.create_model("mlp", input_shape=(2, 2, 1), num_classes=2, units=(1,))
    history = {
        "epoch": np.arange(1.0, 4.0),
        "loss": 1 - np.array(validation),
        "accuracy": np.array(validation) + 0.01,
        "step": np.array([20.0, 40.0, 60.0]),
        "seconds": np.array(seconds),
        "images_per_second": 1000 / np.array(seconds),
        "val_accuracy": np.array(validation),
    }
    metrics = {"val_accuracy": validation[-1], "test_accuracy": 0.5}
    return Run(model, history, metrics, None, "", 3, 12.0)


def test_columns_by_hand() -> None:
    one, two = fake([0.5, 0.9, 0.99]), fake([0.9, 0.8, 0.97], (50.0, 3.0, 4.0))
    assert _studies.parameters([one]) == "9"
    assert _studies.flops([one]) == "12"  # 2 * (4 * 1 + 1 * 2)
    # Medians without the first epochs: of 2, 1, 3, 4.
    assert _studies.seconds_per_epoch([one, two]) == 2.5
    assert _studies.epoch_seconds([one, two]) == "2.5"
    assert _studies.step_milliseconds([one, two]) == "125.0"
    assert _studies.images_per_second([one]) == "750"
    assert _studies.accuracy("val")([one, two]) == "98.00 ± 1.41"
    assert _studies.accuracy("test")([one]) == "50.00"
    assert _studies.accuracy("train")([one]) == ""
    assert _studies.training_accuracy([one, replace(two, best_epoch=1)]) == "95.50 ± 6.36"
    assert _studies.best_epoch([one, replace(two, best_epoch=1)]) == "2.0 ± 1.4"


def test_a_single_epoch_counts_though_it_compiles() -> None:
    run = fake([0.5, 0.9, 0.99])
    short = Run(
        run.model, {k: v[:1] for k, v in run.history.items()}, run.metrics, None, "", 1, 1.0
    )
    assert _studies.epoch_seconds([short]) == "9.0"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (0.95, "3.0 ± 0.0"),
        (0.9, "1.5 ± 0.7"),  # of the second run the first epoch, though it falls back
        (0.98, "3.0, never in 1 of 2"),
        (1.0, "never"),
    ],
)
def test_epochs_to_an_accuracy(target: float, text: str) -> None:
    runs = [fake([0.5, 0.9, 0.99]), fake([0.9, 0.8, 0.97])]
    assert _studies.epochs_to(target)(runs) == text


def test_curves_have_mean_and_deviation() -> None:
    runs = [fake([0.5, 0.9, 1.0]), fake([0.7, 0.8, 1.0])]
    x, mean, deviation = mean_curve(runs, "val_accuracy")
    assert x.tolist() == [1, 2, 3]
    np.testing.assert_allclose(mean, [0.6, 0.85, 1.0])
    np.testing.assert_allclose(deviation, [0.2 / np.sqrt(2), 0.1 / np.sqrt(2), 0])
    assert mean_curve(runs[:1], "val_accuracy")[2].tolist() == [0, 0, 0]


def test_a_table_is_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _studies.write_table(tmp_path / "t.md", ["", "long heading"], [["a", "1"], ["bcd", "22"]])
    assert (tmp_path / "t.md").read_text().splitlines() == [
        "|     | long heading |",
        "| --- | ------------ |",
        "| a   | 1            |",
        "| bcd | 22           |",
    ]
    assert "| bcd | 22           |" in capsys.readouterr().out


def test_mean_curves_are_drawn_with_their_bands() -> None:
    lines = {
        "a": np.array([[100, 1000], [0.5, 0.75], [0.25, 0.125]]),
        "b": np.array([[100, 1000], [0.5, 0.5], [0, 0]]),
    }
    figure = figures.mean_curves({"accuracy": lines, "loss": lines}, "images", log=True)
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("accuracy", "loss")
    for axes in (left, right):
        assert (axes.get_xlabel(), axes.get_xscale()) == ("images", "log")
        assert [t.get_text() for t in axes.get_xticklabels()] == ["100", "1,000"]
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b"]
        first, second = axes.collections
        box = first.get_paths()[0].vertices
        assert {tuple(v) for v in box} >= {(100, 0.25), (100, 0.75), (1000, 0.625), (1000, 0.875)}
        assert second.get_paths()[0].vertices[:, 1].tolist() == pytest.approx([0.5] * len(box))
        np.testing.assert_array_equal(first.get_facecolor()[0, :3], mpl_rgb(axes.lines[0]))
    (axes,) = figures.mean_curves({"loss": lines}, "epoch").axes
    assert axes.get_xscale() == "linear"


def mpl_rgb(line: object) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(line.get_color()))  # type: ignore[attr-defined]


def assert_drawn(file: Path) -> None:
    with Image.open(file) as image:
        assert min(image.size) > 300
        assert np.asarray(image.convert("L")).std() > 1


def cells(file: Path) -> list[list[str]]:
    lines = [line for line in file.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def settings(run: Run) -> dict:
    assert run.directory
    return json.loads((run.directory / "config.json").read_text())["training"]


# The studies themselves

STUDIES = {
    "activation_choice": (
        activation_choice,
        activation_choice.ACTIVATIONS,
        _studies.StudyOptions(),
    ),
    "pooling_head": (pooling_head, pooling_head.HEADS, pooling_head.HeadOptions()),
    "separable": (separable, separable.MODELS["tuned"], separable.SeparableOptions()),
}


@pytest.mark.parametrize("name", STUDIES)
def test_variants_are_trained_alike(name: str) -> None:
    module, variants, options = STUDIES[name]
    made = [module.experiment(variant, replace(options, seed=4)) for variant in variants]
    assert all(experiment.training == made[0].training for experiment in made)
    assert (made[0].training.monitor, made[0].training.seed) == (None, 4)
    assert {e.validation for e in made} == {0.1}
    assert len({e.name for e in made}) == len({(e.model, str(e.arguments)) for e in made})
    assert all(re.fullmatch(rf"{name}/.*{v}", e.name) for v, e in zip(variants, made, strict=True))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_writes_its_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, variants, options = STUDIES[name]
    runs = {v: [fake([0.5, 0.9, 0.99]), fake([0.9, 0.8, 0.97])] for v in variants}
    asked = []
    monkeypatch.setattr(module, "run_variants", lambda found, o: asked.append((found, o)) or runs)
    options = replace(options, out=str(tmp_path))
    assert module.main(options) is runs
    ((found, passed),) = asked
    assert (list(found), passed) == (list(variants), options)
    head, _, *rows = cells(tmp_path / f"{name}.md")
    assert [row[0] for row in rows] == list(variants)
    table = dict(zip(head, rows[0], strict=True))
    assert table["validation"] == "98.00 ± 1.41"
    wanted = {
        "parameters": "9",
        "FLOPs an image": "12",
        "ms a step": "75.0",  # median of 2, 1, 2, 1 seconds for 20 steps
        "images/s": "750",
        "seconds an epoch": "1.5",
        "epochs to 98 %": "3.0, never in 1 of 2",
    }
    assert {k: v for k, v in table.items() if k in wanted} == {
        k: v for k, v in wanted.items() if k in head
    }
    if name != "separable":
        assert {"parameters", "ms a step", "test", "epochs to 98 %"} <= {*head}
    if name != "separable":
        assert_drawn(tmp_path / f"{name}.png")
        claims, _ = read_claims(tmp_path / "claims.json")
        named = [c.second for c in claims if isinstance(c, Claim)]
        assert all(second.startswith(name) for second in named)


@pytest.mark.slow
def test_activations_are_compared_and_their_curves_drawn(tmp_path: Path) -> None:
    runs = activation_choice.main(_studies.StudyOptions(data="digits", epochs=2, out=str(tmp_path)))
    assert list(runs) == ["relu", "sigmoid", "tanh"]
    assert [g[0].model.module.activation for g in runs.values()] == list(runs)
    assert len({json.dumps(settings(group[0])) for group in runs.values()}) == 1
    assert settings(runs["relu"][0])["monitor"] is None
    facts = json.loads((tmp_path / "tanh" / "run.json").read_text())
    assert facts["data"]["validation"]["examples"] == 144
    # The nets start alike.
    starts = {json.loads((tmp_path / n / "run.json").read_text())["initial_hash"] for n in runs}
    assert len(starts) == 1
    head, _, *rows = cells(tmp_path / "activation_choice.md")
    assert head[1:3] == ["parameters", "ms a step"]
    assert head[3:] == ["validation", "test", "epochs to 98 %", "seconds an epoch"]
    for row, (name, (run,)) in zip(rows, runs.items(), strict=True):
        assert row[0] == name
        assert row[1] == "93,322"
        assert row[4] == f"{100 * run.metrics['test_accuracy']:.2f}"
    assert_drawn(tmp_path / "activation_choice.png")


@pytest.mark.slow
def test_heads_differ_in_their_pooling_only(tmp_path: Path) -> None:
    runs = pooling_head.main(pooling_head.HeadOptions(data="digits", epochs=1, out=str(tmp_path)))
    flat, average = runs["flatten"][0].model, runs["average"][0].model
    assert set(average.layer_names) - set(flat.layer_names) == {"global_average_pooling"}
    assert settings(runs["flatten"][0]) == settings(runs["average"][0])
    head, _, *rows = cells(tmp_path / "pooling_head.md")
    assert [row[:2] for row in rows] == [["flatten", "93,322"], ["average", "60,554"]]
    assert head[-1] == "epochs to 98 %"


def test_the_head_of_the_net_for_photos_is_compared_at_the_size_that_is_asked_for() -> None:
    options = pooling_head.HeadOptions(model="cats_convnet", data="photos", image_size=96)
    flat, average = (pooling_head.experiment(head, options) for head in ("flatten", "average"))
    assert flat.training == average.training
    assert (flat.validation, flat.one_logit, flat.training.epochs) == (0.25, True, 30)
    assert flat.images == average.images == {"image_size": (96, 96)}
    sizes = [
        cj.summary(cj.create_model(e.model, input_shape=(96, 96, 3), **e.arguments)).parameters
        for e in (flat, average)
    ]
    assert sizes == [1_290_433, 1_290_433 - 15 * 128 * 512]
    head = 1_290_433 - cj.summary(cj.create_model("cats_convnet", pooling="avg")).parameters
    assert head / 1_290_433 > 0.75


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "size"), [("mnist_convnet", 28), ("cifar_deep", 32)])
@pytest.mark.parametrize("odd", [0, 1])
def test_ways_of_downsampling_have_maps_of_the_same_sizes(name: str, size: int, odd: int) -> None:
    shape = (size + odd, size + 3 * odd, 3)
    tables = {
        way: {row.name: row for row in cj.summary(model).rows}
        for way in downsampling.WAYS
        for model in [cj.create_model(name, input_shape=shape, downsampling=way)]
    }
    parameters = {sum(r.parameters for r in rows.values()) for rows in tables.values()}
    assert len(parameters) == 1
    max_, stride = tables["max"], tables["stride"]
    strided = ("conv1", "conv2") if name == "mnist_convnet" else ("conv2", "conv4")
    for pool, conv in zip(("pool1", "pool2"), strided, strict=True):
        assert max_[pool].output_shape == tables["average"][pool].output_shape
        assert max_[pool].output_shape == stride[conv].output_shape


def test_the_map_of_stride_two_is_every_other_value_of_the_full_one() -> None:
    model = cj.create_model("mnist_convnet", downsampling="stride", seed=3)
    assert "crop2" in model.layer_names
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    maps = cj.explain.activations(model, x, ["conv1", "crop2", "conv2"])
    np.testing.assert_array_equal(maps["crop2"], np.asarray(maps["conv1"])[:, :12, :12])
    weights = model.params["conv2"]
    with jax.numpy_rank_promotion("allow"):
        layer = layers.Conv2D(64, 3, activation="relu")
        layer.build((None, 13, 13, 32))
        layer.set_weights([weights["kernel"], weights["bias"]])
        full = np.asarray(layer(maps["conv1"]))
    # A pooling of the full map, 11x11, has 5x5 windows, which begin at these values.
    np.testing.assert_allclose(maps["conv2"], full[:, :10:2, :10:2], rtol=1e-5, atol=1e-6)


# Choices in the deep CIFAR-10 net


def test_arms_differ_from_the_base_in_one_thing() -> None:
    options = cifar_choices.ChoiceOptions(train_examples=50, validation=0.04, seed=10)
    base, *others = (cifar_choices.experiment(arm, options) for arm in cifar_choices.ARMS)
    assert (base.training.augment, dict(base.arguments), base.validation_last) == (None, {}, True)
    assert (base.training.seed, base.training.monitor) == (10, None)
    for arm, other in zip(cifar_choices.ARMS[1:], others, strict=True):
        assert other.name == f"cifar_choices/{arm}"
        assert (other.validation, other.train_examples, other.data) == (0.04, 50, "cifar10")
        changed = dict(other.arguments) != {}, other.training.augment is not None
        assert sum(changed) == 1
        assert replace(other.training, augment=None) == base.training
    plain = cifar10.experiment(cifar10.CifarOptions(model="deep", seed=10))
    whole = cifar_choices.experiment("base", cifar_choices.ChoiceOptions(seed=10))
    for field in ("training", "model", "data", "validation", "validation_last"):
        assert getattr(whole, field) == getattr(plain, field)


def test_another_size_of_a_batch_is_recorded_as_a_change() -> None:
    options = cifar_choices.ChoiceOptions(batch_size=32, epochs=3)
    small = cifar_choices.experiment("flip", options)
    assert (small.training.batch_size, small.training.epochs) == (32, 3)
    assert small.changed == {"epochs": 3, "batch_size": 32}
    assert cifar_choices.experiment("flip", cifar_choices.ChoiceOptions()).changed == {}


def test_claims_are_of_arms_that_there_are() -> None:
    options, mnist = cifar_choices.ChoiceOptions(), _studies.StudyOptions()
    names = {
        *(cifar_choices.experiment(arm, options).name for arm in cifar_choices.ARMS),
        *(dense_head.experiment(h, dense_head.HeadOptions()).name for h in dense_head.HEADS),
        *(downsampling.experiment(way, mnist).name for way in downsampling.WAYS),
        *(activation_choice.experiment(a, mnist).name for a in activation_choice.ACTIVATIONS),
    }
    for base in pooling_head.TRAINING:
        head_options = pooling_head.HeadOptions(model=base)
        names |= {pooling_head.experiment(head, head_options).name for head in pooling_head.HEADS}
    claims = [*cifar_choices.CLAIMS, *dense_head.CLAIMS, *downsampling.CLAIMS]
    claims += [*activation_choice.CLAIMS]
    claims += [claim for group in pooling_head.CLAIMS.values() for claim in group]
    assert {arm for claim in claims for arm in (claim.first, claim.second)} <= names
    assert len({claim.text for claim in claims}) == len(claims)


def test_the_fastest_activation_is_ahead_after_one_epoch() -> None:
    runs = {
        "relu": [fake([0.9, 0.95, 0.99]), fake([0.8, 0.9, 0.97])],
        "sigmoid": [fake([0.5, 0.9, 0.99]), fake([0.25, 0.8, 0.97])],
        "tanh": [fake([0.75, 0.9, 0.99]), fake([0.875, 0.8, 0.97])],
    }
    tanh, sigmoid = activation_choice.speed_claims(runs)
    assert (tanh.first, tanh.second) == ((0.9, 0.8), (0.75, 0.875))
    assert (sigmoid.first, sigmoid.second) == ((0.9, 0.8), (0.5, 0.25))


def test_a_gap_is_measured_on_training_images_as_they_are() -> None:
    options = cifar_choices.ChoiceOptions(data="digits", train_examples=50, validation=0.5, seed=3)
    model = cj.create_model("cifar_deep", input_shape=(28, 28, 1), seed=3)
    runs = [SimpleNamespace(model=model, metrics={"test_accuracy": test}) for test in (0.5, 0.25)]
    make = partial(cifar_choices.experiment, "mild")
    found = _studies.plain_gaps(make, options, runs)
    for seed, gap, run in zip((3, 4), found, runs, strict=True):
        data = cj.data.load("digits").with_validation(0.5, seed).with_train_examples(50, seed)
        images, labels = np.asarray(data.train.inputs[:]), data.train.labels
        right = np.mean(cj.predict(model, images).argmax(axis=1) == labels)
        assert gap == pytest.approx(right - run.metrics["test_accuracy"])


def test_an_unknown_arm_is_named() -> None:
    with pytest.raises(ValueError, match=r"--arms has no 'flips'\. Did you mean 'flip'"):
        cifar_choices.main(cifar_choices.ChoiceOptions(arms=("flips",)))
    with pytest.raises(ValueError, match="--heads has no '4x1'"):
        dense_head.main(dense_head.HeadOptions(heads=("4x1",)))


STUDIES_OF_PARTS = {
    "cifar_choices": (cifar_choices, cifar_choices.ChoiceOptions(), {"arms": ("base", "flip")}),
    "dense_head": (dense_head, dense_head.HeadOptions(), {"heads": ("1x64", "3x512")}),
    "downsampling": (downsampling, _studies.StudyOptions(), {}),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", STUDIES_OF_PARTS)
def test_a_part_of_a_study_leaves_the_table_of_all_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, options, part = STUDIES_OF_PARTS[name]
    run = fake([0.5, 0.9, 0.99])
    where = module if hasattr(module, "run_variants") else _studies
    monkeypatch.setattr(where, "run_variants", lambda found, _: {v: [run, run] for v in found})
    monkeypatch.setattr(_studies, "plain_gaps", lambda *_: [0.5, 0.25])
    options = replace(options, out=str(tmp_path))
    every = list(module.main(options))
    assert len(every) > 2
    head, _, *rows = cells(tmp_path / f"{name}.md")
    assert [row[0] for row in rows] == every
    assert {"parameters", "training", "test"} <= {*head}
    claims = read_claims(tmp_path / "claims.json")[0]
    assert tuple(claim for claim in claims if isinstance(claim, Claim)) == module.CLAIMS
    assert [claim.text for claim in claims[len(module.CLAIMS) :]] == list(
        getattr(module, "GAPS", ())
    )
    written = {file.name for file in tmp_path.iterdir()}
    if part:
        ((_, names),) = part.items()
        assert set(names) < set(every)
        module.main(replace(options, **part))
        stem = "-".join(names)
        assert {f.name for f in tmp_path.iterdir()} - written == {f"{stem}.md", f"{stem}.png"}
        assert_drawn(tmp_path / f"{stem}.png")


@pytest.mark.slow
def test_arms_are_trained_and_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 12, 12, 3), np.uint8), np.arange(24) % 3
    np.savez(tmp_path / "noise.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    options = cifar_choices.ChoiceOptions(
        data=str(tmp_path / "noise.npz"), epochs=1, out=str(tmp_path / "runs"),
        arms=("base", "average_head"), validation=0.25, train_examples=16,
    )  # fmt: skip
    runs = cifar_choices.main(options)
    kernels = [group[0].model.params["conv1"]["kernel"].shape for group in runs.values()]
    assert kernels == [(3, 3, 3, 32)] * 2
    head, _, *rows = cells(tmp_path / "runs" / "base-average_head.md")
    assert head[1:] == ["parameters", "ms a step", "training", "validation", "test"]
    assert [row[0] for row in rows] == ["base", "average_head"]
    assert_drawn(tmp_path / "runs" / "base-average_head.png")
    record = json.loads((tmp_path / "runs" / "base" / "run.json").read_text())
    assert (record["experiment"], record["data"]["train"]["examples"]) == ("cifar_choices/base", 16)


@pytest.mark.slow
def test_separable_and_full_convolutions_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 3
    np.savez(tmp_path / "noise.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    options = separable.SeparableOptions(
        data=str(tmp_path / "noise.npz"), epochs=1, out=str(tmp_path / "runs")
    )
    runs = separable.main(options)
    assert settings(runs["separable_convnet"][0]) == settings(runs["separable_twin"][0])
    head, _, *rows = cells(tmp_path / "runs" / "separable.md")
    assert head[1:4] == ["parameters", "FLOPs an image", "ms a step"]
    assert [row[0] for row in rows] == list(separable.MODELS["tuned"])
    assert [row[1] for row in rows] == ["39,939", "141,187", "282,531"]
    for row, (run,) in zip(rows, runs.values(), strict=True):
        assert row[2] == f"{cj.summary(run.model).flops:,}"
        milliseconds = 1000 * run.history["seconds"][0]  # one step
        assert float(row[3]) == pytest.approx(milliseconds, abs=0.05)


def test_the_reported_recipe_has_kerass_initial_values_and_no_normalisation() -> None:
    options = separable.SeparableOptions(recipe="reported")
    made = [separable.experiment(net, options) for net in separable.MODELS["reported"]]
    assert [(e.model, dict(e.arguments), e.recipe) for e in made] == [
        ("separable_convnet", {}, "reported"),
        ("separable_twin", {}, "reported"),
    ]
    assert {(e.training.optimizer, e.training.augment) for e in made} == {("rmsprop", None)}


def test_nets_that_a_recipe_has_not_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, tables = [], []

    def trained(nets: dict, _: object) -> dict[str, list]:
        asked.extend(nets)
        names = {net: net.replace("wide", "convnet") for net in nets}
        made = {net: cj.create_model(name, input_shape=(32, 32, 3)) for net, name in names.items()}
        return {net: [SimpleNamespace(model=model)] * 2 for net, model in made.items()}

    monkeypatch.setattr(separable, "run_variants", trained)
    monkeypatch.setattr(separable._studies, "compare", lambda file, *_: tables.append(file.name))
    options = separable.SeparableOptions(recipe="reported", out=str(tmp_path))
    with pytest.raises(ValueError, match="--recipe reported has no separable_wide, only separable"):
        separable.main(replace(options, nets=("separable_twin", "separable_wide")))
    assert asked == []
    separable.main(replace(options, recipe="tuned", nets=("separable_wide",)))
    separable.main(options)
    assert asked == ["separable_wide", "separable_convnet", "separable_twin"]
    assert tables == ["separable_wide.md", "separable.md"]
    *claims, operations = read_claims(tmp_path / "claims.json")[0]
    assert [claim.metric for claim in claims] == ["parameters", "seconds", "test_accuracy"]
    assert isinstance(operations, Measured)
    assert (operations.first_name, len(operations.first)) == ("full convolutions", 2)
    assert evaluate(operations, operations.first, operations.second).word == "holds"


def test_the_rmsprop_of_keras_3_is_an_option_of_the_reported_recipe() -> None:
    options = separable.SeparableOptions(recipe="reported", optimizer="rmsprop_keras3")
    made = separable.experiment("separable_convnet", options)
    assert made.name == "separable/separable_convnet/rmsprop_keras3"
    assert made.training.optimizer == "rmsprop_keras3"
    with pytest.raises(ValueError, match="--optimizer is for --recipe reported"):
        separable.experiment("separable_convnet", replace(options, recipe="tuned"))


def test_a_folder_is_read_at_the_size_that_is_asked_for() -> None:
    options = separable.SeparableOptions(data="somewhere", image_size=96)
    assert separable.experiment("separable_twin", options).images == {"image_size": (96, 96)}


# Size of the training set


def test_small_sets_get_more_epochs_alike_for_both_models() -> None:
    options = training_size.SizeOptions()
    for size in training_size.SIZES:
        dense, conv = (training_size.experiment(m, size, options) for m in training_size.MODELS)
        assert dense.training == conv.training
        assert dense.train_examples == conv.train_examples == size
        training = dense.training
        steps = training.epochs * -(-size // training.batch_size)
        assert training.epochs >= 10
        assert steps >= 600
        assert training.epochs == 10 or steps - steps // training.epochs < 600
    tiny = training_size.experiment("mlp", 20, options).training
    assert (tiny.batch_size, tiny.epochs) == (2, 60)
    assert training_size.experiment("mlp", 5, options).training.batch_size == 1
    assert training_size.experiment("mlp", 60_000, options).training.epochs == 10
    said = [training_size.experiment("mlp", n, options).training.epochs for n in (100, 300, 3000)]
    assert said == [60, 60, 13]  # of the docstring


@pytest.mark.slow
def test_sizes_are_trained_drawn_and_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"data": "digits", "out": str(tmp_path), "sizes": (40,)}
    figure = training_size.main(training_size.SizeOptions(epochs=1, **chosen))
    assert_drawn(figure)
    table = tmp_path / "training_size.md"
    head, _, *rows = cells(table)
    assert head == ["images", "epochs", "dense net of 512 units, test", "LeNet, test", "difference"]
    assert [row[:2] for row in rows] == [["40", "1"]]
    for row in rows:
        found = [
            json.loads((tmp_path / model / row[0] / "run.json").read_text())
            for model in ("mlp", "lenet")
        ]
        assert [f["data"]["train"]["examples"] for f in found] == [int(row[0])] * 2
        assert found[0]["data"] == found[1]["data"]
        accuracies = [100 * f["metrics"]["test_accuracy"] for f in found]
        assert row[2:4] == [f"{a:.2f}" for a in accuracies]
        assert row[4] == f"{accuracies[1] - accuracies[0]:+.2f}"
    text = table.read_text()
    table.unlink()
    figure.unlink()
    capsys.readouterr()
    again = training_size.main(training_size.SizeOptions(draw_only=True, **chosen))
    assert (again, table.read_text()) == (figure, text)
    assert_drawn(figure)
    assert "epoch 1/1" not in capsys.readouterr().out


def test_sizes_on_the_command_line() -> None:
    found = tyro.cli(training_size.SizeOptions, args=["--sizes", "10", "200", "--draw-only"])
    assert (found.sizes, found.draw_only) == ((10, 200), True)
    assert tyro.cli(training_size.SizeOptions, args=[]).sizes == training_size.SIZES


def result(model: str, size: int, accuracies: Sequence[float]) -> Result:
    runs = [
        {
            "experiment": f"training_size/{model}/{size}",
            "metrics": {"test_accuracy": a},
            "epochs": 7,
            "seed": seed,
        }
        for seed, a in enumerate(accuracies)
    ]
    return Result(runs)


def test_the_figure_has_mean_and_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [
        result("mlp", 1000, [0.8, 0.9]),
        result("mlp", 100, [0.5, 0.7]),
        result("lenet", 100, [0.8, 0.8]),
        Result([{"experiment": "mnist_lenet", "metrics": {"test_accuracy": 0.1}}]),
    ]
    drawn = {}
    original = figures.mean_curves
    monkeypatch.setattr(
        figures,
        "mean_curves",
        lambda panels, *a, **k: drawn.update(panels) or original(panels, *a, **k),
    )
    training_size.draw(results, tmp_path)
    (curves,) = drawn.values()
    np.testing.assert_allclose(
        curves["dense net of 512 units"],
        [[100, 1000], [0.6, 0.85], [0.2 / np.sqrt(2), 0.1 / np.sqrt(2)]],
    )
    np.testing.assert_allclose(curves["LeNet"], [[100], [0.8], [0]], atol=1e-12)
    assert cells(tmp_path / "training_size.md")[2:] == [
        ["100", "7", "60.00 ± 14.14", "80.00 ± 0.00", "+20.00"],
        ["1,000", "7", "85.00 ± 7.07", "", ""],
    ]


def test_the_lead_is_claimed_at_every_size_and_to_grow_as_images_get_few(tmp_path: Path) -> None:
    results = [
        result("mlp", 1000, [0.80, 0.90, 0.85]),
        result("lenet", 1000, [0.85, 0.92]),
        result("mlp", 100, [0.5, 0.7]),
        result("lenet", 100, [0.8, 0.8]),
        result("lenet", 10, [0.2, 0.3]),
    ]
    training_size.draw(results, tmp_path)
    *sizes, grows = read_claims(tmp_path / "claims.json")[0]
    assert sizes == [training_size.claim_of(100), training_size.claim_of(1000)]
    assert (sizes[0].first, sizes[0].second) == ("training_size/lenet/100", "training_size/mlp/100")
    np.testing.assert_allclose(grows.first, [0.3, 0.1])
    np.testing.assert_allclose(grows.second, [0.05, 0.02])


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    twice = [result("mlp", 100, [0.5]), result("mlp", 100, [0.6])]
    with pytest.raises(ValueError, match=r"holds runs of mlp/100 that differ in more than the see"):
        training_size.draw(twice, tmp_path)
    with pytest.raises(ValueError, match="holds no finished run of training_size"):
        training_size.main(training_size.SizeOptions(out=str(tmp_path), draw_only=True))
    with pytest.raises(RunError, match="nowhere does not exist"):
        training_size.main(training_size.SizeOptions(out=str(tmp_path / "nowhere"), draw_only=True))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((10, 5000), "train_examples must be a whole number between 1 and 1438, .* got 5000"),
        ((0, 10), r"sizes must be whole numbers >= 1, got \(0, 10\)"),
        ((), r"sizes must be whole numbers >= 1, got \(\)"),
    ],
)
def test_impossible_sizes_are_refused_before_any_training(
    tmp_path: Path, sizes: tuple[int, ...], message: str
) -> None:
    options = training_size.SizeOptions(data="digits", sizes=sizes, out=str(tmp_path / "runs"))
    with pytest.raises(ValueError, match=message):
        training_size.main(options)
    assert not (tmp_path / "runs").exists()


# The benchmark of depthwise convolution

TINY = Conv("tiny", "conv", (2, 6, 6, 3), (3, 3, 3, 2), padding="valid")


def test_depthwise_convolutions_of_the_nets() -> None:
    own = depthwise.convolutions("separable_convnet")
    assert [(conv.layer, conv.inputs, conv.kernel, conv.first) for conv in own][:3] == [
        ("sepconv1", (128, 32, 32, 3), (3, 3, 3, 1), True),
        ("sepconv2", (128, 30, 30, 32), (3, 3, 32, 1), False),
        ("sepconv3", (128, 14, 14, 64), (3, 3, 64, 1), False),
    ]
    assert len(own) == 6
    assert {conv.strides for conv in depthwise.convolutions("mobilenet")} == {1, 2}
    with pytest.raises(ValueError, match="only must be one of separable_convnet, mobilenet, got"):
        depthwise.convolutions("lenet")


@pytest.mark.parametrize("first", [False, True])
def test_both_ways_compute_the_same(first: bool) -> None:
    conv = Conv(*(getattr(TINY, f) for f in ("net", "layer", "inputs", "kernel")), first=first)
    rng = np.random.default_rng(0)
    shapes = [conv.inputs, conv.kernel, (2, 6, 6, 6)]
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    found = [depthwise.program(conv, e, True)(*arrays) for e in depthwise.ENGINES.values()]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)
    texts = [
        depthwise.program(conv, e, True).lower(*arrays).as_text()
        for e in depthwise.ENGINES.values()
    ]
    counts = [text.count("stablehlo.convolution") for text in texts]
    assert counts[1] >= 2
    if jax.default_backend() == "cpu":
        assert counts[0] == 0


def test_the_table_of_the_depthwise_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    depthwise.report([TINY], rounds=1)
    head, forward, training = capsys.readouterr().out.splitlines()
    assert head.endswith("grouped / taps")
    assert forward.split()[:5] == ["tiny", "conv", "2x6x6x3", "3x3x3x2", "forward"]
    taps, grouped = map(float, training.split()[5:7])
    ratio = re.search(r"(\S+) \(", training)
    assert ratio
    assert float(ratio.group(1)) == pytest.approx(grouped / taps, rel=0.5)
