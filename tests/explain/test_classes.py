"""Class patterns: the ascent written out for a linear model, what nets make of them, errors."""

import jax
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import nn
from cnnjax.core import rng
from cnnjax.explain import DeadFilters, class_patterns
from cnnjax.models.builder import build

SIZE = 8


class Linear(linen.Module):
    classes: int = 3

    @linen.compact
    def __call__(self, x):
        return nn.Dense(self.classes, name="logits")(nn.Flatten(name="flatten")(x))


class Small(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = nn.Conv2D(8, 3, activation=jax.nn.relu, name="conv")(x)
        x = nn.GlobalAveragePooling2D(name="mean")(x)
        return nn.Dense(4, name="logits")(x)


def model_of(module, **arguments):
    return cj.Model.from_module(module, (SIZE, SIZE, 3), **arguments)


def by_hand(model, number, sign, steps, seed=0):
    """Of a linear model the gradient is the kernel, at every step."""
    key = rng.at(rng.stream(seed, "class_patterns"), number)
    x = np.asarray(jax.random.uniform(key, (SIZE, SIZE, 3)), np.float64) * 20 + 128
    kernel = np.asarray(model.params["logits"]["kernel"], np.float64)
    column = 0 if kernel.shape[1] == 1 else number
    gradient = sign * kernel[:, column].reshape(SIZE, SIZE, 3)
    x = x + steps * gradient / (np.sqrt(np.mean(gradient**2)) + 1e-5)
    return np.clip((x - x.mean()) / (x.std() + 1e-5) * 0.1 + 0.5, 0, 1)


@pytest.mark.thorough
def test_classic_climbs_the_logit_of_each_class():
    model = model_of(Linear(), label_names=("a", "b", "c"))
    found = class_patterns(model, ["c", 0], steps=30, recipe="classic")
    assert found.dtype == np.float32
    expected = [by_hand(model, 2, 1, 30), by_hand(model, 0, 1, 30)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_one_logit_is_climbed_for_the_second_class_and_descended_for_the_first():
    model = model_of(Linear(1), label_names=("cat", "dog"))
    found = class_patterns(model, ["dog", "cat"], steps=30, recipe="classic")
    expected = [by_hand(model, 1, 1, 30), by_hand(model, 0, -1, 30)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.thorough
def test_a_net_takes_the_images_for_their_classes():
    model = model_of(Small(), preprocessing="tf", seed=1)

    def logits(steps):
        images = class_patterns(model, range(4), steps=steps)
        return np.asarray(model(model.spec.preprocess(255 * images, check=False)))

    few, many = logits(1), logits(60)
    assert (np.diag(many) > np.diag(few)).all()
    assert many.argmax(0).tolist() == [0, 1, 2, 3]  # no image has more of a class than its own


def test_a_class_alone_has_the_pattern_it_has_among_others():
    model = model_of(Linear())

    def patterns(classes, seed=0):
        return class_patterns(model, classes, steps=5, seed=seed, recipe="classic")

    together = patterns([2, 1])
    np.testing.assert_allclose(patterns([1])[0], together[1], atol=1e-5)
    np.testing.assert_array_equal(patterns([2, 1]), together)
    assert np.abs(patterns([2, 1], seed=1) - together).max() > 0.01


def test_dead_classes_are_named():
    model = model_of(Linear())
    for alive, message in (
        ([1, 0, 1], r"^Linear: the gradient of class 1 is zero \(dead\): its pattern is noise"),
        ([0, 0, 1], r"gradient of classes 0, 1 is zero \(dead\): their patterns are noise"),
    ):
        layer = {**model.params["logits"]}
        layer["kernel"] = layer["kernel"] * np.array([alive], np.float32)
        dead = model.replace(variables={"params": {"logits": layer}})
        with pytest.warns(DeadFilters, match=message):
            class_patterns(dead, [0, 1], steps=1, recipe="classic")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": [3]}, "classes=3 is out of range: Linear has 3 classes"),
        ({"classes": ["dgo"]}, r"classes='dgo' is no class of Linear\. Did you mean 'dog'\?"),
        ({"classes": []}, r"classes must be a list of at least one class, got \[\]"),
        ({"classes": "dog"}, "classes must be a list of at least one class, got 'dog'"),
        ({"recipe": "deep"}, "there is no recipe 'deep'"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
    ],
)
def test_errors(arguments, message):
    model = model_of(Linear(), label_names=("cat", "dog", "bird"))
    with pytest.raises(ValueError, match=message):
        class_patterns(model, **{"classes": [0], **arguments})


def test_of_several_labels_or_values_the_outputs_are_climbed():
    model = model_of(Linear())
    for task in ("multilabel", "values"):
        other = cj.Model.from_module(Linear(), (8, 8, 3), task=task).replace(
            variables=model.variables
        )
        np.testing.assert_array_equal(
            class_patterns(other, [2, 0], steps=2, recipe="classic"),
            class_patterns(model, [2, 0], steps=2, recipe="classic"),
        )


def test_models_without_classes_of_square_images():
    headless = cj.Model.abstract(*build("mobilenet", alpha=0.25, include_top=False))
    with pytest.raises(ValueError, match=r"mobilenet has no head \(include_top=False\)"):
        class_patterns(headless, [0])
    wide = cj.Model.from_module(Linear(), (8, 10, 3))
    with pytest.raises(ValueError, match="Linear takes images of 8x10: patterns of classes are"):
        class_patterns(wide, [0])
