"""What has no map [N, height, width, channels] is refused, and never recommended."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import lax

import cnnjax as cj
from cnnjax.explain.maps import layers_with_maps


class Part(linen.Module):
    """A named layer that does anything."""

    function: Any

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)


class Torchlike(linen.Module):
    """A convolution whose maps are [N, C, H, W], as those of PyTorch."""

    filters: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.filters, x.shape[1], 3, 3)
        kernel = self.param("kernel", linen.initializers.lecun_normal(), shape)
        return jax.nn.relu(lax.conv(x, kernel, (2, 2), "SAME"))


class Net(linen.Module):
    """Maps first, then what looks like maps and is none."""

    filters: int = 8

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.relu(linen.Conv(4, (3, 3), name="conv")(x))
        Part(lambda x: x.reshape(x.shape[0], -1, 4), name="tokens")(x)
        Part(lambda x: x.reshape(x.shape[0], -1, 2, 2), name="heads")(x)
        Part(lambda x: x.transpose(0, 2, 1, 3), name="turned")(x)
        Part(lambda x: x[:, None], name="video")(x)
        Part(lambda x: x.reshape(-1, 4, 4, 4), name="windows")(x)
        Part(lambda x: x[:1], name="first")(x)
        y = Part(lambda x: x.transpose(0, 3, 1, 2), name="moved")(x)
        y = Torchlike(self.filters, name="torchlike")(y)
        return linen.Dense(3, name="logits")(y.reshape(x.shape[0], -1) + 0 * x.sum())


def inputs(model: cj.Model) -> np.ndarray:
    shape = (2, *model.spec.input_shape)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def model(size: tuple[int, int] = (16, 16), filters: int = 8) -> cj.Model:
    return cj.Model.from_module(Net(filters), (*size, 2))


# 8 filters of 8x8: no proportion tells the axes of "torchlike".
@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [(16, 16), (16, 24), (40, 8)])
def test_only_maps_count_as_maps(size: tuple[int, int]) -> None:
    assert list(layers_with_maps(model(size))) == ["conv"]


@pytest.mark.parametrize(
    ("layer", "shape", "fault"),
    [
        ("heads", "[N, 256, 2, 2]", "is no map"),
        ("turned", "[N, 16, 16, 4]", "is no map"),
        ("video", "[N, 1, 16, 16, 4]", "has no spatial extent"),
        ("moved", "[N, 4, 16, 16]", "is no map"),
        ("torchlike", "[N, 8, 8, 8]", "is no map"),
        ("windows", "[32 for N = 2, 4, 4, 4]", "is no map"),
        ("first", "[1 for N = 2, 16, 16, 4]", "is no map"),
        ("logits", "[N, 3]", "has no spatial extent"),
    ],
)
@pytest.mark.parametrize(
    "method", [cj.explain.grad_cam, cj.explain.hires_cam, cj.explain.grad_cam_plus_plus]
)
@pytest.mark.thorough
def test_all_else_is_refused_with_its_shape(
    method: Any, layer: str, shape: str, fault: str
) -> None:
    net = model()
    with pytest.raises(ValueError, match=rf"^layer='{layer}' {fault}") as error:
        method(net, inputs(net), layer, 1)
    assert f"its output is {shape}" in str(error.value)
    assert str(error.value).endswith("take one of maps, e.g. 'conv'")


@pytest.mark.parametrize("layer", ["torchlike", "moved", "heads"])
def test_filter_patterns_are_not_made_of_them(layer: str) -> None:
    with pytest.raises(ValueError, match=rf"layer='{layer}' is no map"):
        cj.explain.filter_patterns(model(), layer, steps=1)


@pytest.mark.parametrize("name", ["torchlik", "token", "move", "video2", "logit"])
def test_a_wrong_name_is_offered_layers_with_maps_only(name: str) -> None:
    net = model()
    with pytest.raises(ValueError, match=rf"layer='{name}' names no layer") as error:
        cj.explain.grad_cam(net, inputs(net), name)
    assert str(error.value).endswith("Known layers: conv.")
    with pytest.raises(ValueError, match=r"no default layer: give one, e\.g\. layer='conv'$"):
        cj.explain.grad_cam(net, inputs(net))


@pytest.mark.thorough
def test_a_map_is_a_map_whatever_its_form() -> None:
    class Many(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = linen.Conv(12, (3, 3), (1, 4), name="flat")(x)  # 12x3x12
            x = linen.ConvTranspose(3, (3, 3), (2, 2), name="larger")(x)
            x = Part(lambda x: x.mean(axis=2, keepdims=True), name="column")(x)
            return linen.Dense(3, name="logits")(x.reshape(x.shape[0], -1))

    net = cj.Model.from_module(Many(), (12, 12, 1))
    assert list(layers_with_maps(net)) == ["flat", "larger", "column"]
    for layer in layers_with_maps(net):
        assert cj.explain.grad_cam(net, inputs(net), layer, 0).shape == (2, 12, 12)


def test_where_a_net_takes_one_size_only_the_proportions_tell() -> None:
    class Fixed(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = x + self.param("pos", linen.initializers.zeros, (1, 16, 24, 1))
            x = linen.Conv(6, (3, 3), (2, 2), name="conv")(x)
            y = Part(lambda x: jnp.moveaxis(x, -1, 1), name="moved")(x)
            return linen.Dense(3, name="logits")(y.reshape(x.shape[0], -1))

    net = cj.Model.from_module(Fixed(), (16, 24, 1))
    assert list(layers_with_maps(net)) == ["conv"]


@pytest.mark.thorough
def test_the_maps_of_a_backbone_are_all_there() -> None:
    net = cj.Model.abstract(*cj.models.builder.build("mobilenet", alpha=0.25))
    shapes = cj.explain.activation_shapes(net)
    wanted = {n: s for n, s in shapes.items() if len(s) == 4 and s[1] * s[2] > 1}
    assert layers_with_maps(net) == wanted
