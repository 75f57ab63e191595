"""Low-rank adapters: nothing changes at first, only they are trained, and they merge exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models.adapters import is_adapter
from cnnjax.transfer import base_layers, lora, merged


class Attentive(linen.Module):
    """Layers of Flax alone: a convolution, normalisation, attention, a dense layer."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Conv(8, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        x = x.reshape(x.shape[0], -1, 8)
        x = linen.MultiHeadDotProductAttention(2, name="attention")(x)
        return linen.Dense(3, name="logits")(x.mean(1))


def drawn(model: cj.Model, seed: int = 0) -> cj.Model:
    """The same with adapters that do something, as after a training."""
    generator = np.random.default_rng(seed)

    def change(path: str, leaf: Any) -> Any:
        return (
            jnp.asarray(generator.normal(0, 0.1, leaf.shape), leaf.dtype)
            if is_adapter(path)
            else leaf
        )

    return model.replace(variables=trees.map_flat(change, model.variables))


def splits(shape: tuple[int, ...], count: int = 16) -> cj.data.Splits:
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return cj.data.Splits(cj.data.from_arrays(images, np.arange(count, dtype=np.int32) % 3))


def convnet() -> cj.Model:
    return cj.create_model("mnist_convnet", input_shape=(18, 18, 1), num_classes=3)


def own() -> cj.Model:
    return cj.Model.from_module(Attentive(), (6, 6, 1))


def own_nnx() -> cj.Model:
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 3, rngs=rngs))
    return cj.Model.from_nnx(net, (4,), preprocessing="none")


MODELS: dict[str, tuple[Callable[[], cj.Model], tuple[str, ...]]] = {
    "ours": (convnet, ("conv[23]", "dense1")),
    "own": (own, ("conv", "attention")),
    "nnx": (own_nnx, ("layers/0",)),
}
KINDS = ["ours", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("own", "nnx"))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_adapters_starts_at_the_same_bits_and_merges_to_what_it_computes(kind):
    make, patterns = MODELS[kind]
    model = make()
    adapted = lora(model, patterns, 2, alpha=3, seed=1)
    images = np.random.default_rng(0).random((4, *model.spec.input_shape), np.float32)
    assert np.array_equal(adapted(images), model(images))
    assert adapted.layer_names == model.layer_names
    changed = drawn(adapted)
    plain = merged(changed)
    assert plain.spec == model.spec
    assert trees.leaves(plain.variables).keys() == trees.leaves(model.variables).keys()
    assert np.abs(changed(images) - model(images)).max() > 1e-3
    np.testing.assert_allclose(plain(images), changed(images), rtol=1e-6, atol=1e-7)
    if kind == "nnx":
        inside = changed.to_nnx().layers[0].kernel[...]
        np.testing.assert_array_equal(inside, plain.params["layers"]["0"]["kernel"])


def test_the_product_is_what_two_convolutions_one_after_the_other_add():
    model = convnet()
    adapted = drawn(lora(model, ("conv2",), 2, alpha=6))
    a, b = (adapted.params["conv2"][f"kernel_lora_{side}"] for side in "ab")
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 7, 32)), jnp.float32)

    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )  # fmt: skip

    kernel = model.params["conv2"]["kernel"]
    added = convolved(convolved(inputs, a.reshape(3, 3, 32, 2)), b.reshape(1, 1, 2, 64))
    expected = convolved(inputs, kernel) + 6 / 2 * added
    found = convolved(inputs, merged(adapted).params["conv2"]["kernel"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_training_moves_the_adapters_alone_and_goes_on_where_it_was_interrupted(tmp_path: Path):
    model, data = own(), splits((6, 6, 1))
    adapted = lora(model, ("conv", "attention"), 2)
    frozen = base_layers(adapted, head=())
    assert "conv/kernel" in frozen
    assert "norm" in frozen
    assert "conv" not in frozen
    settings: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-2, "frozen": frozen}
    run = cj.fit(adapted, data, cj.TrainingConfig(epochs=2, **settings), verbose=False)
    before, after = (trees.leaves(m.variables) for m in (adapted, run.model))
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved
    assert all(map(is_adapter, moved))
    assert {path for path in before if path.endswith("_lora_b")} <= moved
    for epochs in (1, 2):
        config = cj.TrainingConfig(epochs=epochs, resume=epochs == 2, **settings)
        again = cj.fit(adapted, data, config, directory=tmp_path / "run", verbose=False)
    assert trees.tree_hash(again.model.variables) == trees.tree_hash(run.model.variables)
    loaded = cj.load(tmp_path / "run", Attentive())
    assert loaded.spec.adapters == adapted.spec.adapters
    assert trees.tree_hash(loaded.variables) == trees.tree_hash(run.model.variables)


def test_a_model_with_adapters_is_saved_summed_up_explained_and_exported(tmp_path: Path):
    model = convnet()
    adapted = drawn(lora(model, ("conv*",), 1))
    assert base_layers(adapted)[:2] == ("conv1/bias", "conv1/kernel")
    loaded = cj.load(cj.save(adapted, tmp_path / "model"))
    assert loaded.spec == adapted.spec
    assert trees.tree_hash(loaded.variables) == trees.tree_hash(adapted.variables)
    rows = {row.name: row.parameters for row in cj.summary(adapted).rows}
    assert rows["conv1"] == 3 * 3 * 32 + 32 + 9 + 32
    image = np.random.default_rng(0).random((1, 18, 18, 1), np.float32)
    maps = [cj.explain.grad_cam(m, image, "conv2", 0) for m in (adapted, merged(adapted), model)]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-5)
    assert np.abs(maps[0] - maps[2]).max() > 1e-3
    for ending in (".safetensors", ".weights.h5"):
        file = cj.export_weights(adapted, tmp_path / f"weights{ending}")
        again = cj.create_model(
            "mnist_convnet", input_shape=(18, 18, 1), num_classes=3, weights=str(file)
        )
        assert trees.tree_hash(again.variables) == trees.tree_hash(merged(adapted).variables)


def test_what_cannot_be_adapted_is_refused_in_one_sentence():
    model = convnet()
    adapted = lora(model, ("conv2",), 2)
    for wrong, sentence in (
        (lambda: lora(model, ("conf2",), 2), "names no parameter. Did you mean 'conv2'"),
        (lambda: lora(model, ("conv2/bias",), 2), "names only conv2/bias, which are no kernels"),
        (lambda: lora(model, (), 2), "must name layers to adapt"),
        (lambda: lora(model, "conv2", 2), "must be a tuple of patterns"),
        (lambda: lora(model, ("logits",), 4), "rank=4 is more than 'logits/kernel' can have"),
        (lambda: lora(model, ("conv2",), 0), "rank must be a whole number >= 1, got 0"),
        (lambda: lora(model, ("conv2",), 2, alpha=0), "alpha must be a finite number > 0, got 0"),
        (lambda: lora(model, ("conv2",), 2, alpha=float("inf")), "a finite number > 0, got inf"),
        (lambda: lora(adapted, ("conv3",), 2), "has adapters already"),
        (lambda: lora("lenet", ("conv2",), 2), "model must be a Model, got str"),
        (lambda: merged(None), "model must be a Model, got NoneType"),
        (lambda: merged(model), "has no adapters to merge"),
        (lambda: cj.transfer.replace_head(adapted, 2), "give it its head before"),
        (lambda: base_layers(own()), "name its layers with head="),
        (lambda: base_layers(own(), head=("logit",)), "Did you mean 'logits'"),
    ):
        with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
            wrong()
