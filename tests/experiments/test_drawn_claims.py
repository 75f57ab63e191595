"""Experiments that draw a claim: what they measure is right on what is known, and they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import special

import cnnjax as cj
from cnnjax.runs.results.claims import read_claims
from cnnjax.weights import save_npz
from experiments import activation_functions, colour_channels, filters_by_depth, pooling_claims

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)
X = np.linspace(-8, 8, 401)[:-1] + 0.01  # no kink among them


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """Smooth coloured blobs, as a file."""
    coarse = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    coarse.resize((64, 48), Image.Resampling.BICUBIC).save(tmp_path / "blobs.png")
    return str(tmp_path / "blobs.png")


def check(folder: Path, *names: str) -> None:
    """The images are there, and not blank."""
    assert {file.stem for file in folder.glob("*.png")} == set(names)
    for name in names:
        assert np.asarray(Image.open(folder / f"{name}.png").convert("L")).std() > 5


# Activation functions

_SIGMOID = special.expit(X)
_DENSITY = np.exp(-(X**2) / 2) / np.sqrt(2 * np.pi)

# Values and slopes by their formulas, in float64.
FORMULAS = {
    "ReLU": (np.maximum(X, 0), (X > 0).astype(float)),
    "leaky ReLU (0.01)": (np.where(X > 0, X, 0.01 * X), np.where(X > 0, 1, 0.01)),
    "ELU": (np.where(X > 0, X, np.expm1(X)), np.where(X > 0, 1, np.exp(X))),
    "sigmoid": (_SIGMOID, _SIGMOID * (1 - _SIGMOID)),
    "tanh": (np.tanh(X), 1 - np.tanh(X) ** 2),
    "softplus": (np.logaddexp(X, 0), _SIGMOID),
    "GELU": (X * special.ndtr(X), special.ndtr(X) + X * _DENSITY),
    "swish": (X * _SIGMOID, _SIGMOID * (1 + X * (1 - _SIGMOID))),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", FORMULAS)
def test_activation_functions_and_their_slopes_are_the_formulas(name: str) -> None:
    function = activation_functions.FUNCTIONS[name]
    values, slopes = FORMULAS[name]
    np.testing.assert_allclose(function(X.astype(np.float32)), values, rtol=2e-5, atol=2e-6)
    found = activation_functions.slopes(function, X)
    np.testing.assert_allclose(found, slopes, rtol=2e-5, atol=2e-6)


def test_activation_functions_in_a_figure_and_a_table(tmp_path: Path) -> None:
    found = activation_functions.main(activation_functions.Config(out=str(tmp_path)))
    check(tmp_path, "functions")
    assert list(found) == list(FORMULAS)
    sigmoid, relu, tanh = found["sigmoid"], found["ReLU"], found["tanh"]
    assert (relu.low, relu.high, relu.steepest) == (0, np.inf, 1)
    assert relu.flat == pytest.approx((0.5, 0.5), abs=1e-4)
    assert (sigmoid.low, sigmoid.high) == pytest.approx((0, 1), abs=1e-6)
    assert sigmoid.steepest == sigmoid.at_zero == 0.25
    # Where s (1 - s) < 1e-3, and where 1 - tanh^2 is, of N(0, 25).
    edge = special.logit((1 - np.sqrt(1 - 4e-3)) / 2)
    assert sigmoid.flat[1] == pytest.approx(2 * special.ndtr(edge / 5), abs=1e-4)
    edge = np.arctanh(np.sqrt(1 - 1e-3))
    assert tanh.flat[1] == pytest.approx(2 * special.ndtr(-edge / 5), abs=1e-4)
    assert found["softplus"].low == pytest.approx(0, abs=1e-6)
    assert found["GELU"].steepest == pytest.approx(1.1289, abs=1e-4)
    table = (tmp_path / "functions.md").read_text().splitlines()
    assert len(table) == 2 + len(FORMULAS)


# Colour channels


def test_a_convolution_is_the_sum_over_the_channels(photo: str, tmp_path: Path) -> None:
    config = colour_channels.Config(photo=photo, out=str(tmp_path / "out"), size=64, filter=2)
    assert colour_channels.main(config) < 1e-6
    check(tmp_path / "out", "channels")
    with pytest.raises(ValueError, match="filter must be at most 2, got 3"):
        colour_channels.main(colour_channels.Config(photo=photo, size=64, filter=3))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_responses_of_channels_by_hand(padding: str) -> None:
    inputs, kernel = RNG.random((7, 6, 3)), RNG.standard_normal((3, 3, 3, 2))
    layer = colour_channels.Layer(
        ("blue", "green", "red"), inputs, kernel, np.array([0.5, -9.0]), padding, True, inputs
    )
    found = colour_channels.responses(layer, 1)
    edge = ((1, 1), (1, 1), (0, 0)) if padding == "same" else ((0, 0),) * 3
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(inputs, edge), (3, 3), (0, 1))
    np.testing.assert_allclose(found, np.einsum("hwcij,ijc->hwc", windows, kernel[..., 1]))
    assert not colour_channels.summed(layer, 1).any()  # by the ReLU
    wanted = np.maximum(colour_channels.responses(layer, 0).sum(axis=-1) + 0.5, 0)
    np.testing.assert_allclose(colour_channels.summed(layer, 0), wanted)


# Poolings


def test_measures_of_maps_are_those_of_numpy() -> None:
    a, b = RNG.random((2, 9, 8, 3)), RNG.random((2, 9, 8, 3))
    a[1, ..., 2] = 7  # a dead map is left out
    found = pooling_claims.correlation(a, b)
    pairs = [
        [np.corrcoef(a[n, ..., c].ravel(), b[n, ..., c].ravel())[0, 1] for c in range(3)]
        for n in range(1)
    ]
    assert found[0] == pytest.approx(np.mean(pairs[0]))
    live = [np.corrcoef(a[1, ..., c].ravel(), b[1, ..., c].ravel())[0, 1] for c in range(2)]
    assert found[1] == pytest.approx(np.mean(live))
    assert pooling_claims.change(a, a + 1)[0] == pytest.approx(
        1 / np.sqrt(np.mean([a[0, ..., c].var() for c in range(3)]))
    )


def test_energy_of_waves_is_where_their_frequency_is() -> None:
    rows, columns = np.indices((32, 32))
    waves = [np.cos(2 * np.pi * columns / 16), np.cos(2 * np.pi * (rows + columns) / 3)]
    share = pooling_claims.high_share(5 + np.stack(waves)[..., None])
    assert share[0] < 0.01
    assert share[1] > 0.99
    assert pooling_claims.high_share(np.ones((1, 8, 8, 2)))[0] < 1e-9


def test_poolings_of_a_map_and_of_the_moved_one() -> None:
    maps = np.arange(36.0).reshape(1, 6, 6, 1)
    assert pooling_claims.pool(maps, "max")[0, :, :, 0].tolist() == [[7, 9], [19, 21]]
    assert pooling_claims.pool(maps, "average", 1)[0, :, :, 0].tolist() == [
        [10.5, 12.5],
        [22.5, 24.5],
    ]


def test_a_smooth_map_has_background_and_no_texture() -> None:
    """The measures tell a slope from noise, whatever the pooling."""
    slope = np.broadcast_to(np.arange(32.0)[:, None, None], (32, 32, 1))[None]
    noise = RNG.random((1, 32, 32, 1))
    found = {}
    for name, maps in {"slope": slope, "noise": noise}.items():
        pooled = pooling_claims.pool(maps, "max")
        case = pooling_claims.Pooled(maps, pooled, pooling_claims.pool(maps, "max", 1), None)
        found[name] = pooling_claims.measured(case)
    assert found["slope"]["background"][0] > 0.99 > found["noise"]["background"][0]
    assert found["slope"]["texture"][0] < 0.1
    assert found["noise"]["texture"][0] > 0.5
    assert found["slope"]["neighbourhood"][0] < 0.5 < found["noise"]["neighbourhood"][0]


@pytest.mark.slow
def test_pooling_claims_from_photos_to_claims(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(2):
            coarse = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            coarse.resize((80, 60)).save(tmp_path / "photos" / name / f"{k}.png")
    config = pooling_claims.Config(
        data=str(tmp_path / "photos"), out=str(tmp_path / "out"), photos=3
    )
    found = pooling_claims.main(config)
    check(tmp_path / "out", "maps", "measures")
    assert list(found) == [pooling_claims.PHOTO, *pooling_claims.LAYERS]
    assert found["conv_pw_3_relu"]["max"]["weights"].shape == (3,)
    assert "weights" not in found[pooling_claims.PHOTO]["max"]
    claims, _ = read_claims(tmp_path / "out" / "claims.json")
    assert len(claims) == 5
    assert all(len(claim.first) == 3 for claim in claims)


# Filters by depth


def grating(length: float, angle: float, colour: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """Bars [64, 64, 3] of a wave's length in pixels, around grey."""
    rows, columns = np.indices((64, 64))
    wave = np.cos(2 * np.pi * (np.cos(angle) * columns + np.sin(angle) * rows) / length)
    return 0.5 + 0.4 * wave[..., None] * np.array(colour)


def test_measures_of_gratings_are_known() -> None:
    images = np.stack([grating(8, 0), grating(16, 1.0), grating(4, 0.5)])
    found = filters_by_depth.measured(images)
    np.testing.assert_allclose(found["wavelength"], [8, 16, 4], rtol=0.05)
    assert found["orientation"].min() > 0.95
    np.testing.assert_allclose(found["colour"], 0, atol=1e-9)
    crossed = (grating(8, 0) + grating(8, np.pi / 2))[None] / 2
    assert filters_by_depth.measured(crossed)["orientation"][0] < 0.01
    # Red against green of the same brightness.
    even = grating(8, 0, (0.587, -0.299, 0))[None]
    assert filters_by_depth.measured(even)["colour"][0] > 0.99


def test_a_rank_correlation_with_the_share_of_orders_as_far_from_0() -> None:
    assert filters_by_depth.ranked([3, 2, 1, 0]) == (-1, 2 / 24)
    assert filters_by_depth.ranked([0, 1, 3, 2])[0] == 0.8


@pytest.mark.slow
def test_photos_that_share_a_draw_of_the_noise_are_one_pair() -> None:
    values = {
        "average": dict.fromkeys(pooling_claims.MEASURES, np.arange(20.0)),
        "max": dict.fromkeys(pooling_claims.MEASURES, np.zeros(20)),
    }
    found = pooling_claims.claims(dict.fromkeys(pooling_claims.LAYERS, values), "photos")
    *others, weights = found
    assert {len(claim.first) for claim in others} == {20}
    assert weights.pairs == "draws of the noise, 20 photos"
    # Groups of 3, 3, 3, 3, 2, 2, 2, 2 photos.
    assert weights.first == (1, 4, 7, 10, 12.5, 14.5, 16.5, 18.5)


@pytest.mark.thorough
def test_filters_by_depth_from_weights_to_claims(tmp_path: Path) -> None:
    model = cj.create_model("mobilenet", alpha=0.25, include_top=False, seed=1)
    save_npz(model.variables, tmp_path / "weights.npz")
    config = filters_by_depth.Config(
        weights=str(tmp_path / "weights.npz"), out=str(tmp_path / "out"), filters=3, size=24,
        steps=2, layers=("conv1_relu", "conv_pw_1_relu"),
    )  # fmt: skip
    arms = filters_by_depth.main(config)
    check(tmp_path / "out", "filters", "filters_random", "measures")
    assert list(arms) == ["trained", "random weights"]
    assert arms["trained"]["conv1_relu"].images.shape[1:] == (24, 24, 3)
    claims, _ = read_claims(tmp_path / "out" / "claims.json")
    assert len(claims) == 4
    with pytest.raises(ValueError, match="layers must name 2 to 8 layers, got 1"):
        filters_by_depth.main(filters_by_depth.Config(layers=("conv1_relu",)))
