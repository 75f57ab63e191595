"""Nets that forecast: equal to the same nets in Keras; what they see of the past; compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data.series.windows import generate_series
from cnnjax.models import receptive_fields
from cnnjax.models.builder import build
from cnnjax.recipes import build_model
from experiments import _shuffling, time_series
from experiments._series_claims import measured

pytestmark = pytest.mark.thorough

SHAPE = (40, 1)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "series_conv1d": {"filters": 6, "dilations": (1, 2, 4), "kernel_size": 3},
    "series_gru": {"units": 7, "values_per_step": 8},
    "series_windows": {"filters": 6, "window": 8, "units": 5},
}


def keras_net(name: str) -> keras.Model:
    inputs = x = keras.Input(SHAPE)
    given = ARGUMENTS[name]
    if name == "series_conv1d":
        for i, dilation in enumerate(given["dilations"], start=1):
            y = layers.Conv1D(
                6, 3, padding="causal", dilation_rate=dilation, activation="relu", name=f"conv{i}"
            )(x)
            x = y if i == 1 else layers.Add()([x, y])
        x = x[:, -1]
    elif name == "series_gru":
        x = layers.GRU(7, name="gru")(layers.Reshape((5, 8))(x))
    else:
        x = layers.Conv1D(6, 8, strides=8, activation="relu", name="conv1")(x)
        x = layers.GlobalAveragePooling1D()(x)
        x = layers.Dense(5, "relu", name="dense1")(x)
    return keras.Model(inputs, layers.Dense(4, name="forecast")(x))


def with_biases(model: cj.Model) -> cj.Model:
    """Other parameters, among them biases that are not zero."""
    rng = np.random.default_rng(0)
    return model.replace(
        variables=trees.map_flat(
            lambda path, leaf: jnp.asarray(rng.normal(size=leaf.shape) / 3, jnp.float32),
            model.variables,
        )
    )


def net(name: str) -> cj.Model:
    """A small one."""
    return with_biases(cj.create_model(name, input_shape=SHAPE, num_classes=4, **ARGUMENTS[name]))


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_outputs_equal_kerass(name: str) -> None:
    model = net(name)
    assert model.spec.task.name == "values"
    inputs = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        oracle = keras_net(name)
        for layer, weights in model.params.items():
            kept = [np.asarray(weights[w.name]) for w in oracle.get_layer(layer).weights]
            oracle.get_layer(layer).set_weights(kept)
        wanted = oracle(inputs, training=False)
    np.testing.assert_allclose(model(inputs), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("length", "dilations", "kernel_size"),
    [
        (300, (1, 2, 4, 8, 16, 32, 64, 128), 2),
        (40, (1, 2, 4, 8, 16, 32, 64, 128), 2),  # shorter than what is seen
        (11, (1, 3, 9), 3),
        (30, (4, 1, 3), 3),  # not evenly spaced
        (9, (2, 2, 5), 2),
        (23, (2, 6, 4), 3),  # every other step
        (23, (1, 7), 2),
        (8, (1, 7), 2),
        (7, (1, 7, 7), 2),
        (3, (), 2),
        (1, (1, 2), 2),
        (5, (3,), 4),
    ],
)
def test_causal_convolutions_over_all_steps_end_the_same(
    length: int, dilations: tuple[int, ...], kernel_size: int
) -> None:
    model = cj.create_model(
        "series_conv1d", input_shape=(length, 2), num_classes=3, filters=5,
        dilations=dilations, kernel_size=kernel_size,
    )  # fmt: skip
    model = with_biases(model)
    inputs = np.random.default_rng(3).normal(size=(4, length, 2)).astype(np.float32)
    x: Any = inputs
    for i, dilation in enumerate(dilations, start=1):
        weights = [np.asarray(model.params[f"conv{i}"][name]) for name in ("kernel", "bias")]
        layer = layers.Conv1D(
            5, kernel_size, padding="causal", dilation_rate=dilation, activation="relu"
        )
        layer.build(x.shape)
        layer.set_weights(weights)
        y = layer(x)
        x = y if i == 1 else x + y
    check_fields(model, length, dilations, kernel_size)
    forecast = model.params["forecast"]
    wanted = np.asarray(x)[:, -1] @ np.asarray(forecast["kernel"]) + np.asarray(forecast["bias"])
    np.testing.assert_allclose(model(inputs), wanted, rtol=1e-4, atol=1e-4)


def check_fields(
    model: cj.Model, length: int, dilations: tuple[int, ...], kernel_size: int
) -> None:
    """Of every convolution its field's size, and where that of the forecast lies."""
    fields = receptive_fields(model)
    sizes = 1 + (kernel_size - 1) * np.cumsum([*dilations])
    found = [fields[f"conv{i}"] for i in range(1, len(dilations) + 1)]
    assert [field and field.extent[0] for field in found] == sizes.tolist()
    last = fields["forecast"]
    assert last is not None
    seen = 1 + (kernel_size - 1) * sum(dilations)
    assert last.box((0, 0)) == (length - seen, 0, length, 1)


@pytest.mark.parametrize("arguments", [{}, {"dilations": (4, 1, 3), "kernel_size": 3}])
def test_short_and_uneven_nets_can_be_exported(arguments: dict[str, Any], tmp_path: Path) -> None:
    model = cj.create_model("series_conv1d", input_shape=(40, 1), **arguments)
    cj.export_weights(model, tmp_path / "series.weights.h5")
    again = cj.create_model(
        "series_conv1d", input_shape=(40, 1), weights=tmp_path / "series.weights.h5", **arguments
    )
    assert trees.tree_hash(trees.flatten(again.params)) == trees.tree_hash(
        trees.flatten(model.params)
    )


def test_the_defaults_are_of_like_size() -> None:
    conv, gru = (cj.Model.abstract(*build(name)) for name in ("series_conv1d", "series_gru"))
    assert 0.9 < cj.summary(conv).parameters / cj.summary(gru).parameters < 1.1
    assert _shuffling.receptive_field(conv) == 256


def test_receptive_fields_double_and_end_at_the_last_step() -> None:
    fields = receptive_fields(cj.Model.abstract(*build("series_conv1d")))
    assert [fields[f"conv{i}"].extent[0] for i in range(1, 9)] == [2**i for i in range(1, 9)]
    assert [fields[f"add{i}"].extent[0] for i in range(2, 9)] == [2**i for i in range(2, 9)]
    assert fields["conv1"].box((0, 0)) == (80, 0, 82, 1)
    assert fields["conv1"].box((127, 0)) == (334, 0, 336, 1)
    assert fields["add3"].box((31, 0)) == (328, 0, 336, 1)
    assert fields["forecast"].box((0, 0)) == (80, 0, 336, 1)


def seen(model: cj.Model) -> np.ndarray:
    """Which of the steps the forecast depends on, by its gradient."""
    inputs = jnp.asarray(np.random.default_rng(2).normal(size=(4, *SHAPE)), jnp.float32)
    gradient = jax.grad(lambda x: jnp.abs(model(x)).sum())(inputs)
    return np.asarray(jnp.abs(gradient).sum(axis=(0, 2)) > 0)


def test_convolutions_see_their_window_and_a_gru_all() -> None:
    model = net("series_conv1d")
    field = _shuffling.receptive_field(model)
    assert field == 1 + 2 * 7
    assert not seen(model)[:-field].any()
    assert seen(model)[-field:].all()
    assert seen(net("series_gru")).all()


# Shuffling


def test_blocks_are_shuffled_where_they_should_be() -> None:
    past = np.arange(2 * 20.0).reshape(2, 20)
    found = _shuffling.shuffled_blocks(past, 4, 16, 3)
    for before, after in zip(past, found, strict=True):
        np.testing.assert_array_equal(
            after[[*range(4), *range(16, 20)]], before[[*range(4), *range(16, 20)]]
        )
        blocks = after[4:16].reshape(4, 3)
        assert sorted(blocks.tolist()) == before[4:16].reshape(4, 3).tolist()
    assert (found != past).any()
    within = _shuffling.shuffled_within(past, 5)
    assert (np.sort(within.reshape(2, 4, 5)) == past.reshape(2, 4, 5)).all()
    assert (within != past).any()


def test_what_shuffling_changes() -> None:
    series = cj.data.load_series(steps=400, length=40, horizon=4)
    models = {name: net(name) for name in ARGUMENTS}
    found = {(s.net, s.what): s for s in _shuffling.shufflings(series, models, 8)}
    older, inside = "blocks of 8 older than 15 steps", "blocks of 8 in the last 15 steps"
    assert (found["series_conv1d", older].after == found["series_conv1d", older].before).all()
    assert found["series_conv1d", older].row(series)[2] == "0 (same bits)"
    assert found["series_gru", older].change > 1e-3
    assert ("series_conv1d", inside) not in found  # a single block: nothing to shuffle
    whole = found["series_windows", "all 5 blocks of 8"]
    np.testing.assert_allclose(whole.after, whole.before, rtol=1e-5)
    assert found["series_windows", "the steps within each block of 8"].change > 1


def test_within_its_window_order_matters() -> None:
    series = cj.data.load_series(steps=400, length=40, horizon=4)
    found = _shuffling.shufflings(series, {"series_conv1d": net("series_conv1d")}, 5)
    assert [s.what for s in found] == [
        "blocks of 5 older than 15 steps",
        "blocks of 5 in the last 15 steps",
    ]
    assert found[0].change == 0
    assert found[1].change > 1


# The experiment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A column of a CSV file."""
    path = tmp_path / "load.csv"
    rows = [f"{i},{value:.3f}" for i, value in enumerate(generate_series(400))]
    path.write_text("\n".join(["hour,load", *rows]))
    return path


@pytest.fixture
def one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of little choice."""
    grid = {"2e-3": {"learning_rate": 2e-3}}
    monkeypatch.setattr(time_series, "GRID", grid)


@pytest.mark.slow
@pytest.mark.usefixtures("one_setting")
def test_the_experiment_compares_forecasts_of_a_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = time_series.SeriesOptions(
        data=str(file), column="load", length=48, horizon=6, seasons=(24,), epochs=1,
        out=str(tmp_path / "out"),
    )  # fmt: skip
    runs = time_series.main(options)
    assert list(runs) == ["series_conv1d", "series_gru", "series_windows"]
    out = capsys.readouterr().out
    table = (tmp_path / "out" / "errors.md").read_text()
    assert table in out
    rows = {line.split("|")[1].strip(): line for line in table.splitlines()}
    for name in ("naive", "moving average of 24", "seasonal naive, 24", *runs):
        assert name in rows
    series = time_series.load(options)
    run = runs["series_gru"][0]
    error = np.abs(time_series.forecast(run, series) - series.future("test")).mean()
    assert f" {error:.2f} " in rows["series_gru"]
    scaled = run.metrics["test_absolute_error"]
    assert error == pytest.approx(scaled * series.deviation, rel=1e-4)
    assert "series_windows" in (tmp_path / "out" / "shuffling.md").read_text()
    for folder in (tmp_path / "out", tmp_path / "out" / "series_gru" / "figures"):
        assert {"forecast.png", "shuffling.png"} <= {p.name for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": "laod"}, r"has no column 'laod'\. Did you mean 'load'"),
        ({"seasons": ()}, "seasons must name at least one period"),
        ({"seasons": (24, 500)}, "season=500 is longer than the 280 values of the training part"),
        ({"seasons": (0,)}, "season must be a whole number >= 1, got 0"),
        ({"length": 300}, "length=300 and horizon=24 need 324"),
    ],
)
def test_options_that_cannot_be_are_named(file: Path, change: dict[str, Any], message: str) -> None:
    options = {"data": str(file), "column": "load", "length": 48, **change}
    with pytest.raises(ValueError, match=message):
        time_series.load(time_series.SeriesOptions(**options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 12}, r"\(12, 1\) is too small for 'series_windows': at least 24 is needed"),
        ({"length": 48, "seasons": (100,)}, "a window of 100x1 does not fit into an input of 48x1"),
    ],
)
def test_options_that_one_net_cannot_take_are_refused_before_any_is_trained(
    file: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    options = {"data": str(file), "column": "load", "seasons": (24,), "horizon": 6, **change}
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        time_series.main(time_series.SeriesOptions(**options, out=str(out)))
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("one_setting")
def test_the_convnet_beats_the_simple_forecasts(tmp_path: Path) -> None:
    options = time_series.SeriesOptions(out=str(tmp_path))
    series = time_series.load(options)
    runs = time_series.main(options)
    errors = {
        name: np.abs(values - series.future("test")).mean()
        for name, values in time_series.baselines(series, (24, 168)).items()
    }
    ours = np.abs(time_series.forecast(runs["series_conv1d"][0], series) - series.future("test"))
    assert ours.mean() < min(errors.values())


def test_the_real_series_is_the_one_that_matplotlib_ships() -> None:
    series = time_series.load(time_series.SeriesOptions(data="google_volume"))
    assert (series.length, series.horizon, len(series.values)) == (60, 5, 1047)
    # The first day of the share on the stock exchange, 19 August 2004.
    assert series.values[0] == pytest.approx(np.log(22_351_900))
    assert series.ends == (733, 838, 1047)
    with pytest.raises(ValueError, match="column='close' is for a file, and google_volume is none"):
        time_series.load(time_series.SeriesOptions(data="google_volume", column="close"))


def test_claims_are_of_errors_and_changes_of_every_seed() -> None:
    options = time_series.resolved(time_series.SeriesOptions(data="google_volume"))
    series = time_series.load(options)
    models = {
        name: build_model(time_series.experiment(name, {}, options), series.splits)
        for name in time_series.NETS
    }
    assert models["series_gru"].module.values_per_step == 5  # type: ignore[attr-defined]
    found = _shuffling.shufflings(series, models, 5)
    truth = series.future("test")
    simple = {"poor": truth + 2, "good": truth - 1}
    nets = {
        "series_conv1d": [truth + 0.5, truth + 0.25],
        "series_gru": [truth - 0.75, truth + 0.5],
    }
    claims = measured("Volume", series, simple, nets, [found, found])
    conv, gru, alike, blind, inside = claims
    assert conv.text == "Volume: the convolutions forecast better than every forecast without a net"
    for claim, first, second in (
        (conv, (1, 1), (0.5, 0.25)),
        (gru, (1, 1), (0.75, 0.5)),
        (alike, (0.75, 0.5), (0.5, 0.25)),
    ):
        np.testing.assert_allclose([claim.first, claim.second], [first, second], rtol=1e-9)
    assert alike.within == 0.05
    assert (blind.second, inside.second) == ((0, 0), (0, 0))
    assert min(*blind.first, *inside.first) > 0


def test_a_gru_reads_several_values_a_step() -> None:
    message = r"values_per_step must divide the length of the series, 40, got 7"
    with pytest.raises(ValueError, match=message):
        cj.create_model("series_gru", input_shape=(40, 1), values_per_step=7)
