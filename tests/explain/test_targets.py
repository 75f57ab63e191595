"""What can be explained at all: classifiers of images, inputs as the model takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import explain
from cnnjax.explain.scores import PREDICTED, class_scores


class Series(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="logits")(jnp.mean(x, axis=1))


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, x: explain.grad_cam(model, x, "logits"),
        explain.saliency,
        explain.occlusion,
        lambda model, x: explain.filter_patterns(model, "logits"),
        lambda model, x: explain.class_patterns(model, [0]),
        lambda model, x: explain.equivariance(model, x, explain.Move()),
        lambda model, x: explain.receptive_box(model, "logits"),
    ],
)
def test_a_model_of_series_takes_no_images(ask):
    model = cj.Model.from_module(Series(), (12, 3))
    message = r"^Series takes no images \[N, H, W, C\], but inputs \[12, 3\]$"
    with pytest.raises(ValueError, match=message):
        ask(model, np.zeros((1, 12, 3), np.float32))


def test_pixels_that_were_not_preprocessed():
    model = cj.create_model("mnist_convnet")
    pixels = np.full((1, 28, 28, 1), 200.0, np.float32)
    for ask in (explain.activations, explain.sparsity, explain.saliency):
        with pytest.raises(ValueError, match=r"images reach 200, so they are pixels; mnist_conv"):
            ask(model, pixels)
    assert explain.activations(model, model.spec.preprocess(pixels), ["conv1"])


@pytest.mark.thorough
def test_a_score_is_the_logit_of_the_class_and_its_gradient_sees_no_other():
    logits = jnp.array([[0.5, -2.0, 1.5], [3.0, 0.25, -1.0]])
    labels = jnp.array([1, PREDICTED])
    assert class_scores(logits, labels).tolist() == [-2, 3]
    gradient = jax.grad(lambda z: class_scores(z, labels).sum())(logits)
    assert gradient.tolist() == [[0, 1, 0], [1, 0, 0]]
    one = jnp.array([[2.0], [2.0], [-3.0]])
    assert class_scores(one, jnp.array([1, 0, PREDICTED])).tolist() == [2, -2, 3]
    # Of positions: class 2 at the first, and what is favoured at the second.
    positions = jnp.stack([logits, logits])
    assert class_scores(positions, jnp.array([2, PREDICTED - 1])).tolist() == [1.5, 3]
