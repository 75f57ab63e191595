"""What stands in the place of covered pixels could be an input of the model, and is named."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import linen

import cnnjax as cj
from cnnjax.explain.fills import covers_of

RNG = np.random.default_rng(0)
# Inputs as models without preprocessing take them.
KINDS = {
    "unit": RNG.random((2, 8, 10, 3), np.float32),
    "standardised": RNG.normal(size=(2, 8, 10, 3)).astype(np.float32),
    "pixels": (RNG.random((2, 8, 10, 3)) * 255).astype(np.float32),
    "small": RNG.random((2, 8, 10, 3), np.float32) * 1e-3,
}


class Linear(linen.Module):
    """The sum of four pixels, and its negative."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", linen.initializers.ones, (1, 1))
        read = x[:, 2:4, 6:8].sum((1, 2, 3))
        return jnp.stack([read, -read], 1) * scale


def model(preprocessing: str = "none") -> cj.Model:
    return cj.Model.from_module(Linear(), (8, 10, 3), preprocessing=preprocessing)


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_it_is_the_mean_of_the_image(kind: str) -> None:
    images, net = KINDS[kind], model()
    covers, name = covers_of(net.spec, jnp.asarray(images), "mean")
    assert name == "mean"
    for image, cover in zip(images, np.asarray(covers), strict=True):
        for channel in range(3):
            np.testing.assert_allclose(cover[..., channel], image[..., channel].mean(), rtol=1e-5)
    # Of a linear model the last point of deletion is its answer to the mean.
    heat = RNG.random((2, 8, 10))
    curve = cj.explain.deletion(net, images, heat, 0, steps=2)
    mean = images.mean((1, 2))
    wanted = 1 / (1 + np.exp(-np.float64(2 * 4 * mean.sum(1))))
    np.testing.assert_allclose(curve.probabilities[:, -1], wanted, rtol=1e-4)
    assert curve.fill == "mean"


@pytest.mark.parametrize("kind", KINDS)
def test_the_heat_does_not_depend_on_the_units(kind: str) -> None:
    """Nor on where zero lies: a fill of 127.5 swamped inputs in [0, 1]."""
    net, images = model(), KINDS[kind]
    heat = cj.explain.occlusion(net, images, 0, size=2, stride=2)
    other = cj.explain.occlusion(net, 3 * images + 2, 0, size=2, stride=2)
    np.testing.assert_allclose(heat, other, atol=1e-3)


def test_blur_is_that_of_scipy() -> None:
    images = jnp.asarray(KINDS["unit"])
    covers, name = covers_of(model().spec, images, "blur")
    deviation = 10 * 8 / 224
    wanted = scipy.ndimage.gaussian_filter(
        images[0], (deviation, deviation, 0), mode="nearest", radius=(1, 1, 0)
    )
    np.testing.assert_allclose(covers[0], wanted, atol=1e-5)
    assert name == "blur"


@pytest.mark.parametrize(
    ("fill", "name"),
    [
        (127.5, "127.5"),
        (np.float32(10), "10"),
        (0, "0"),
        (np.array([10, 20, 255]), "array [3]"),
        (np.full((8, 10, 3), 99, np.uint8), "array [8, 10, 3]"),
        (np.full((2, 8, 10, 3), 7.0), "array [2, 8, 10, 3]"),
    ],
)
@pytest.mark.parametrize("preprocessing", ["unit", "tf", "caffe"])
def test_pixels_are_preprocessed(fill: Any, name: str, preprocessing: str) -> None:
    net = model(preprocessing)
    inputs = net.spec.preprocess(jnp.asarray(np.uint8(KINDS["pixels"])))
    covers, found = covers_of(net.spec, inputs, fill)
    pixels = jnp.broadcast_to(jnp.asarray(fill, jnp.float32), inputs.shape)
    np.testing.assert_allclose(covers, net.spec.preprocess(pixels, check=False))
    assert found == name
    heat = RNG.random((2, 8, 10))
    assert cj.explain.deletion(net, inputs, heat, 0, steps=1, fill=fill).fill == name


@pytest.mark.parametrize(
    ("preprocessing", "kind", "fill", "message"),
    [
        ("none", "unit", 127.5, r"fill in \[127\.5, 127\.5\] lies outside of .* \[0, 0\.99"),
        ("none", "standardised", 127.5, "outside of the images' own range"),
        ("none", "standardised", -100.0, "outside of the images' own range"),
        ("none", "unit", np.array([0, 0.5, 2]), "outside of the images' own range"),
        ("none", "unit", float("nan"), "fill must be|outside of"),
        ("unit", "unit", 0.5, r"fill: floating images must be pixels in \[0, 255\]"),
        ("unit", "unit", 256, r"fill: floating images must be pixels in \[0, 255\]"),
        ("tf", "unit", -1.0, r"fill: floating images must be pixels in \[0, 255\]"),
        ("unit", "unit", "maen", "fill='maen' is neither .* Did you mean 'mean'"),
        ("unit", "unit", np.zeros(4), r"fill must be 'mean', 'blur', a number, .* array \[4\]"),
        ("unit", "unit", True, "fill must be .* got True"),
        ("unit", "unit", None, "fill must be .* got None"),
    ],
)
def test_what_is_no_input_is_refused(
    preprocessing: str, kind: str, fill: Any, message: str
) -> None:
    net, images = model(preprocessing), KINDS[kind]
    with pytest.raises(ValueError, match=message):
        cj.explain.occlusion(net, images, 0, fill=fill)
    with pytest.raises(ValueError, match=message):
        cj.explain.deletion(net, images, RNG.random((2, 8, 10)), 0, fill=fill)


@pytest.mark.parametrize("fill", [0, 0.5, np.array([0.2, 0.3, 0.4], np.float32)])
def test_without_preprocessing_a_fill_is_an_input(fill: Any) -> None:
    covers, _ = covers_of(model().spec, jnp.asarray(KINDS["unit"]), fill)
    np.testing.assert_allclose(covers, np.broadcast_to(np.float32(fill), (2, 8, 10, 3)))


def test_insertion_records_its_blur() -> None:
    curve = cj.explain.insertion(model(), KINDS["unit"], RNG.random((2, 8, 10)), 0, steps=1)
    assert curve.fill == "blur of 10 pixels"
    for blur in (float("inf"), float("nan"), -1, True):
        with pytest.raises(ValueError, match="blur must be > 0 pixels, got"):
            cj.explain.insertion(model(), KINDS["unit"], RNG.random((2, 8, 10)), blur=blur)


@pytest.mark.parametrize("noise", [-0.1, 15, float("nan"), "much"])
def test_noise_is_a_share_of_the_range(noise: Any) -> None:
    with pytest.raises(ValueError, match=r"noise is a share of .* must lie in \[0, 1\], got"):
        cj.explain.smooth_grad(model(), KINDS["unit"], 0, noise=noise)


def test_a_baseline_of_pixels_is_refused_where_the_model_has_a_preprocessing() -> None:
    net = model("unit")
    for baseline, message in (
        (np.full((8, 10, 3), 255.0), "baselines reach 255, so they are pixels"),
        (np.full((8, 10, 3), np.nan), "baselines hold NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            cj.explain.integrated_gradients(net, KINDS["unit"], 0, baseline)
