"""The studies of what is done to images: shuffled blocks, storing as JPEG."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.runs.results import Measured, read_claims
from cnnjax.training import Run
from experiments import _studies, _xor, jpeg_cost, located_targets, shuffled_blocks

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("block", [1, 2])
def test_blocks_come_to_the_places_of_the_orders(block: int) -> None:
    orders = shuffled_blocks.orders_of(5, (6, 4, 3), block, seed=3)
    columns = 4 // block
    expected = np.empty_like(IMAGES)
    for i, order in enumerate(orders):
        assert sorted(order) == list(range(6 * 4 // block**2))
        for place, source in enumerate(order):
            (y, x), (v, u) = (divmod(n, columns) for n in (place, source))
            expected[i, y * block : (y + 1) * block, x * block : (x + 1) * block] = IMAGES[
                i, v * block : (v + 1) * block, u * block : (u + 1) * block
            ]
    np.testing.assert_array_equal(shuffled_blocks.shuffled(IMAGES, block, orders), expected)
    assert len({tuple(order) for order in orders}) == 5


def test_a_fixed_order_is_one_for_all_parts_and_another_for_each_seed() -> None:
    data = cj.data.from_arrays(IMAGES, [0, 1, 0, 1, 0])
    first, again, other = (
        shuffled_blocks.fixed(1, cj.data.Splits(data, test=data.subset(slice(0, 2))), seed)
        for seed in (1, 1, 2)
    )
    assert first.test is not None
    np.testing.assert_array_equal(first.train.inputs[:2], first.test.inputs)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    assert (first.train.inputs != other.train.inputs).any()
    np.testing.assert_array_equal(
        np.sort(first.train.inputs, axis=None), np.sort(IMAGES, axis=None)
    )


@pytest.mark.parametrize("block", [0, 4, 5])
def test_blocks_that_do_not_fill_the_image_are_named(block: int) -> None:
    with pytest.raises(ValueError, match=f"blocks of {block} pixels do not fill images of 6x4"):
        shuffled_blocks.shuffled(IMAGES, block, np.zeros((1, 1), int))


def fake(model: cj.Model, accuracies: list[float]) -> list[Run]:
    history = {"epoch": np.ones(1), "accuracy": np.ones(1)}
    return [Run(model, history, {"test_accuracy": a}, None, "", 1, 1.0) for a in accuracies]


def test_shuffled_blocks_tests_compares_and_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cj.create_model("mlp", units=(1,))
    asked = []

    def trained(variants: dict, options: object) -> dict[str, list[Run]]:
        asked.append(variants)
        return {
            name: fake(model, [0.9, 0.8] if name == "mnist_convnet/plain" else [0.6, 0.7])
            for name in variants
        }

    monkeypatch.setattr(_studies, "run_changed", trained)
    options = shuffled_blocks.BlockOptions(
        data="digits", blocks=(1, 14), train_examples=64, out=str(tmp_path)
    )
    shuffled_blocks.main(options)
    ways = ("plain", "fixed1", "fixed14")
    assert list(asked[0]) == [f"{n}/{w}" for n in ("mnist_convnet", "mlp") for w in ways]
    claims, _ = read_claims(tmp_path / "claims.json")
    assert len(claims) == 5
    lead = claims[2]
    assert isinstance(lead, Measured)
    assert (lead.first, lead.second) == (pytest.approx((0.3, 0.1)), (0, 0))
    lines = (tmp_path / "shuffled_blocks.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["1", "14", "whole"]
    for name in ("shuffled_blocks", "shuffled_images"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 300
    with pytest.raises(ValueError, match="blocks must hold 1"):
        shuffled_blocks.main(shuffled_blocks.BlockOptions(blocks=(2, 4)))


def smooth_images(count: int = 6, channels: int = 3) -> np.ndarray:
    """Waves, which JPEG keeps well."""
    y, x = np.mgrid[:32, :32] / 5
    waves = [np.sin(y * (1 + i / 9) + c) + np.cos(x + i) for i in range(count) for c in range(3)]
    images = 127 + 50 * np.stack(waves).reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
    return images[..., :channels].astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_stored_images_are_those_of_pillow(channels: int) -> None:
    images = smooth_images(channels=channels)
    found = jpeg_cost.stored(images, 50)
    for image, other in zip(images, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image if channels == 3 else image[..., 0]).save(buffer, "JPEG", quality=50)
        np.testing.assert_array_equal(np.asarray(Image.open(buffer)), other.squeeze())


def test_storing_again_changes_little_unless_the_blocks_lie_elsewhere() -> None:
    once = jpeg_cost.stored(RNG.integers(0, 256, (4, 32, 32, 1), dtype=np.uint8), 75)
    again, shifted = (jpeg_cost.stored(once, 75, shift) for shift in (0, 4))
    assert jpeg_cost.signal_to_noise(once, again) > jpeg_cost.signal_to_noise(once, shifted) + 10
    assert jpeg_cost.signal_to_noise(once, once) == float("inf")
    error = np.full((1, 2, 2, 1), 100, np.uint8)
    expected = 20 * np.log10(255 / 10)
    assert jpeg_cost.signal_to_noise(error, error + 10) == pytest.approx(expected)


def test_variants_are_trained_on_changed_data(tmp_path: Path) -> None:
    options = shuffled_blocks.BlockOptions(
        data="digits", train_examples=64, epochs=1, seed=3, out=str(tmp_path)
    )
    ways = {"plain": shuffled_blocks.plain, "fixed1": partial(shuffled_blocks.fixed, 1)}
    _studies.run_changed(
        {w: (partial(shuffled_blocks.experiment, "mlp", w), c) for w, c in ways.items()}, options
    )
    plain, fixed = (json.loads((tmp_path / way / "run.json").read_text()) for way in ways)
    assert fixed["experiment"] == "shuffled_blocks/mlp/fixed1"
    # Both start from the same weights, each has its own data, which no name makes again.
    assert plain["initial_hash"] == fixed["initial_hash"]
    assert plain["data"]["train"]["fingerprint"] != fixed["data"]["train"]["fingerprint"]
    assert plain["source"]["data"] == "digits"
    assert not fixed.get("source")


def test_jpeg_cost_compares_and_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cj.create_model("mlp", units=(1,))
    monkeypatch.setattr(
        _studies,
        "run_changed",
        lambda variants, _: {
            way: fake(model, [0.9 - 0.1 * (way != "as_it_is")]) for way in variants
        },
    )
    options = jpeg_cost.JpegOptions(data="digits", out=str(tmp_path))
    runs = jpeg_cost.main(options)
    assert list(runs) == ["as_it_is", "quality75", "quality50", "quality25"]
    claims, _ = read_claims(tmp_path / "claims.json")
    assert {claim.first for claim in claims} == {"jpeg_cost/photos/as_it_is"}
    lines = (tmp_path / "jpeg_cost.md").read_text().splitlines()
    assert lines[-1].split("|")[-2].strip() == "+10.00"
    with Image.open(tmp_path / "stored.png") as image:
        assert min(image.size) > 300


@pytest.mark.parametrize("kind", jpeg_cost.KINDS)
def test_claims_are_on_arms_that_there_are(kind: str) -> None:
    arms = {f"jpeg_cost/{kind}/{way}" for way in ("as_it_is", *jpeg_cost.KINDS[kind].ways)}
    for claim in jpeg_cost.claims(kind):
        assert {claim.first, claim.second} <= arms


def test_fields_hold_the_digit_in_the_cell_of_their_label() -> None:
    blank = cj.data.from_arrays(np.full((3, 28, 28, 1), 200, np.uint8), [0, 1, 2])
    pieces = located_targets.PIECES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(located_targets, "PIECES", 0)
        data = located_targets.fields(blank, 50, seed=1)
    assert pieces == located_targets.PIECES
    ink = data.inputs[..., 0] > 0
    assert (ink.sum(axis=(1, 2)) == 14 * 14).all()
    for image, label in zip(ink, data.labels, strict=True):
        (top, left), (bottom, right) = (f(np.argwhere(image), axis=0) for f in (np.min, np.max))
        assert label == (top + bottom + 1) // 2 // 8 * 8 + (left + right + 1) // 2 // 8


@pytest.mark.parametrize("head", located_targets.HEADS)
def test_heads_answer_every_cell(head: str) -> None:
    net, x = located_targets.Locator(head=head), jnp.zeros((2, 64, 64, 1))
    answers, state = jax.eval_shape(net.init_with_output, jax.random.key(0), x)
    assert answers.shape == (2, 64)
    dense = {"heat_map": 33, "flatten": 2048 * 64 + 64 + 64 * 65, "average": 32 * 64 + 64 + 64 * 65}
    convolutions = 25 * 16 + 16 + 9 * 16 * 32 + 32 + 25 * 32 * 32 + 32
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == convolutions + dense[head]


def test_located_targets_compares_and_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cj.Model.from_module(
        located_targets.Locator(head="average"), (64, 64, 1), train_argument=False
    )
    monkeypatch.setattr(located_targets, "train", lambda head, options: fake(model, [0.5])[0])
    points = {1: [0.5, 0.75], 2: [1.0, 1.0]}
    monkeypatch.setattr(_xor, "study", lambda seeds, folder: points)
    options = located_targets.TargetOptions(data="digits", test_examples=8, out=str(tmp_path))
    located_targets.main(options)
    claims, _ = read_claims(tmp_path / "claims.json")
    assert isinstance(claims[2], Measured)
    assert (claims[2].first, claims[2].second) == ((1, 1), (0.5, 0.75))
    assert "5" in (tmp_path / "located_targets.md").read_text()
    with Image.open(tmp_path / "located_targets.png") as image:
        assert min(image.size) > 300


def test_one_dense_layer_knows_nothing_of_the_four_corners() -> None:
    x, y = _xor.CORNERS, _xor.classes(_xor.CORNERS)
    assert y.tolist() == [0, 1, 1, 0]
    one, two = (_xor.trained(_xor.initial(layers, 1), x, y) for layers in (1, 2))
    assert float(_xor.loss(one, x, y)) == pytest.approx(np.log(2), abs=1e-6)
    assert _xor.accuracy(two, x, y) == 1
    hidden = np.maximum(x @ np.asarray(two["hidden"]) + np.asarray(two["hidden_bias"]), 0)
    expected = hidden @ np.asarray(two["logits"]) + np.asarray(two["bias"])
    np.testing.assert_allclose(_xor.logits(two, x), expected, rtol=1e-4, atol=1e-4)
    points, labels = _xor.points(200, 1)
    assert (_xor.classes(points) == labels).mean() > 0.95
    assert len(_xor.draw({1: one, 2: two}, points, labels).axes) == 2
