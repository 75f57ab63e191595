"""Class activation maps: equal to Keras' through two sub-models; by hand; clear errors."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED
from families import marked, representatives
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import nn, plot
from cnnjax.explain import EmptyMap, grad_cam, grad_cam_plus_plus, hires_cam
from cnnjax.explain.cam import class_maps
from cnnjax.models import BUILDERS
from cnnjax.models.builder import build
from cnnjax.models.zoo.mobilenet import MobileNet
from cnnjax.models.zoo.vgg import VGG16
from experiments import parity

RNG = np.random.default_rng(0)
LAYERS = {
    "mobilenet": ("conv_pw_3_relu", "conv_dw_6", "conv_pw_13_relu"),
    "vgg16": ("block2_pool", "block4_conv2", "block5_conv3"),
}


class Small(linen.Module):
    """Two convolutions, the mean over space, logits."""

    classes: int = 3

    @linen.compact
    def __call__(self, x):
        x = nn.Conv2D(4, 3, activation=jax.nn.relu, name="conv1")(x)
        x = nn.Conv2D(5, 3, activation=jax.nn.relu, name="conv2")(x)
        x = nn.GlobalAveragePooling2D(name="mean")(x)
        return nn.Dense(self.classes, name="logits")(x)


def small(classes=3, **arguments):
    return cj.Model.from_module(Small(classes), (12, 14, 2), **arguments)


def inputs(model, count=3):
    return np.random.default_rng(1).random((count, *model.spec.input_shape)).astype(np.float32)


class Nested(linen.Module):
    """A backbone as a submodule, with a head of its own."""

    base: linen.Module

    @linen.compact
    def __call__(self, x):
        return nn.Dense(4, name="head")(jnp.mean(self.base(x), axis=(1, 2)))


def resized(heat, height, width):
    return np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))


def keras_grad_cam(keras, below, above, x, targets):
    """Grad-CAM as in the book, with Keras and `jax.grad`, one image at a time.

    Args:
        below, above: Keras' models from the image to the maps, and from the maps to the logits.
    """

    def run(model, values):
        state = [
            [v.value for v in w] for w in (model.trainable_variables, model.non_trainable_variables)
        ]
        return model.stateless_call(*state, values, training=False)[0]

    maps_of = jax.jit(lambda image: run(below, image))
    gradient_of = jax.jit(jax.grad(lambda maps, k: run(above, maps)[0, k]))
    heatmaps = []
    for image, target in zip(x, targets, strict=True):
        maps = maps_of(image[None])
        gradient = gradient_of(maps, target)
        heat = np.maximum((np.asarray(maps)[0] * np.asarray(gradient).mean((0, 1, 2))).sum(-1), 0)
        heat = heat / heat.max() if heat.max() > 0 else heat
        heatmaps.append(resized(heat, *x.shape[1:3]))
    return np.array(heatmaps)


def compare(model, x, layer, targets, theirs):
    # At random weights a map may well be empty; not a comparison of nothing, though.
    assert (theirs.max((1, 2)) > 0.5).sum() >= 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyMap)
        np.testing.assert_allclose(grad_cam(model, x, layer, targets), theirs, atol=1e-4)


# VGG16 has 15 million weights, and 28 with its dense layers at this size.
WITH_TOP = ["mobilenet", pytest.param("vgg16", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=WITH_TOP)
def pair(request):
    arguments = {"alpha": 0.25} if request.param == "mobilenet" else {}
    return parity.twins(request.param, (64, 64), **arguments)


@pytest.fixture(scope="module", params=WITH_TOP)
def nested_pair(request):
    """A backbone of Keras inside a model of Keras, and ours inside a module, of equal weights."""
    import keras

    arguments = {"alpha": 0.25} if request.param == "mobilenet" else {}
    twins = parity.twins(request.param, (64, 64), include_top=False, **arguments)
    head = keras.layers.Dense(4)
    head.build((None, twins.keras.output_shape[-1]))
    kernel = RNG.normal(0, 1, head.kernel.shape).astype(np.float32)
    kernel[:, 0] = np.abs(kernel[:, 0])  # at least one class with a map that is not empty
    head.set_weights([kernel, np.zeros(4, np.float32)])
    base = {"mobilenet": MobileNet, "vgg16": VGG16}[request.param](include_top=False, **arguments)
    ours = cj.Model.from_module(Nested(base), (64, 64, 3), train_argument=False)
    variables = {name: {"base": tree} for name, tree in twins.ours.variables.items()}
    variables["params"]["head"] = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(4)}
    return request.param, twins.keras, head, ours.replace(variables=variables)


@pytest.mark.thorough
@pytest.mark.parametrize("place", [0, 1, 2])
def test_grad_cam_equals_keras(pair, place):
    import keras

    layer = LAYERS[pair.ours.spec.name][place]
    x = parity.images(pair.ours, 5, seed=place)
    targets = [0, 1, 2, 3, 7]
    maps = pair.keras.get_layer(layer).output
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        theirs = keras_grad_cam(
            keras, keras.Model(pair.keras.inputs, maps), keras.Model(maps, pair.keras.outputs[0]),
            x, targets,
        )  # fmt: skip
    compare(pair.ours, x, layer, targets, theirs)


@pytest.mark.thorough
@pytest.mark.parametrize("place", [0, 1, 2])
def test_grad_cam_of_a_nested_layer_equals_keras(nested_pair, place):
    import keras

    name, base, head, ours = nested_pair
    layer = LAYERS[name][place]
    x = parity.images(ours, 5, seed=place)
    targets = [0, 1, 2, 3, 0]
    maps = base.get_layer(layer).output
    last = maps is base.outputs[0]
    start = keras.Input(maps.shape[1:])
    features = start if last else keras.Model(maps, base.outputs[0])(start)
    above = keras.Model(start, head(keras.layers.GlobalAveragePooling2D()(features)))
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        theirs = keras_grad_cam(keras, keras.Model(base.inputs, maps), above, x, targets)
    compare(ours, x, f"base/{layer}", targets, theirs)


@pytest.mark.thorough
def test_behind_the_mean_over_space_all_is_linear_and_known():
    # The logit is the mean of sum_c w_c A_c, so that sum is the map, by Grad-CAM and HiResCAM.
    model = small()
    x = inputs(model)
    maps = np.asarray(cj.explain.activations(model, x, ["conv2"])["conv2"])
    kernel = np.asarray(model.params["logits"]["kernel"])
    heat = np.maximum(maps @ kernel[:, 1], 0)
    assert heat.max((1, 2)).min() > 0
    by_hand = [resized(h / h.max(), 12, 14) for h in heat]
    np.testing.assert_allclose(grad_cam(model, x, "conv2", 1), by_hand, atol=1e-5)
    np.testing.assert_allclose(hires_cam(model, x, "conv2", 1), by_hand, atol=1e-5)


@pytest.mark.thorough
def test_grad_cam_plus_plus_by_its_formula():
    model = small()
    x = inputs(model, 1)
    maps = np.asarray(cj.explain.activations(model, x, ["conv1"])["conv1"], np.float64)[0]

    def logit(values):
        conv, dense = model.params["conv2"], model.params["logits"]
        y = jax.nn.relu(nn.conv2d(values, conv["kernel"]) + conv["bias"].reshape(1, 1, 1, -1))
        return (y.mean((1, 2)) @ dense["kernel"])[0, 2]

    g = np.asarray(jax.grad(logit)(jnp.asarray(maps[None], jnp.float32)), np.float64)[0]
    heat = np.zeros(maps.shape[:2])
    for c in range(maps.shape[2]):
        below = 2 * g[..., c] ** 2 + maps[..., c].sum() * g[..., c] ** 3
        shares = np.divide(g[..., c] ** 2, below, out=np.zeros_like(below), where=below != 0)
        heat += (shares * np.maximum(g[..., c], 0)).sum() * maps[..., c]
    heat = np.maximum(heat, 0)
    expected = resized((heat / heat.max()).astype(np.float32), 12, 14)
    np.testing.assert_allclose(grad_cam_plus_plus(model, x, "conv1", 2)[0], expected, atol=1e-4)


@pytest.mark.thorough
def test_one_logit_speaks_for_the_second_class_and_its_negative_for_the_first():
    model = small(1, label_names=("cat", "dog"))
    x = inputs(model, 2)
    maps = np.asarray(cj.explain.activations(model, x, ["conv2"])["conv2"])
    signed = maps @ np.asarray(model.params["logits"]["kernel"])[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyMap)
        for target, sign in ((1, 1), ("dog", 1), (0, -1), ("cat", -1)):
            heat = np.maximum(sign * signed, 0)
            top = heat.max((1, 2))
            expected = [resized(h / max(t, 1e-30), 12, 14) for h, t in zip(heat, top, strict=True)]
            np.testing.assert_allclose(grad_cam(model, x, "conv2", target), expected, atol=1e-5)
        predicted = [int(k) for k in np.asarray(model(x))[:, 0] > 0]
        np.testing.assert_array_equal(
            grad_cam(model, x, "conv2"), grad_cam(model, x, "conv2", predicted)
        )


def test_targets_by_name_number_and_image():
    model = small(label_names=("a", "b", "c"))
    x = inputs(model)
    each = np.array([grad_cam(model, x, "conv1", k)[i] for i, k in enumerate((2, 0, 1))])
    assert not np.allclose(each[0], grad_cam(model, x, "conv1", 0)[0])
    for target in (["c", "a", "b"], [2, 0, 1], ("c", 0, "b"), np.array([2, 0, 1])):
        np.testing.assert_allclose(grad_cam(model, x, "conv1", target), each, atol=1e-6)


def test_maps_that_are_nowhere_positive_are_zero_and_reported():
    model = small()
    variables = jax.tree.map(lambda a: a, model.variables)
    kernel = np.full((5, 3), 1.0, np.float32)
    kernel[:, 1] = -1
    variables["params"]["logits"]["kernel"] = jnp.asarray(kernel)
    model = model.replace(variables=variables)
    x = inputs(model)
    with pytest.warns(EmptyMap, match=r"images \[1\] are zero, since at 'conv2' nothing speaks"):
        heat = np.asarray(grad_cam(model, x, "conv2", [0, 1, 2]))
    assert heat[1].max() == 0
    assert heat[[0, 2]].max((1, 2)).min() > 0.5
    for method in (hires_cam, grad_cam_plus_plus):
        with pytest.warns(EmptyMap):
            assert np.isfinite(method(model, x, "conv2", 1)).all()


def test_another_target_or_other_weights_compile_nothing():
    model, other = small(), small(seed=1)
    x = inputs(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyMap)
        grad_cam(model, x, "conv2", 0)
        compiled = class_maps._cache_size()
        for target in (1, None, [0, 1, 2]):
            grad_cam(other, x, "conv2", target)
    assert class_maps._cache_size() == compiled


def test_inside_a_compiled_function_with_a_traced_target():
    model = small()
    x = inputs(model)

    @jax.jit
    def maps(images, target):
        return grad_cam(model, images, "conv2", target)

    for target in (0, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMap)
            expected = grad_cam(model, x, "conv2", target)
        np.testing.assert_allclose(maps(x, jnp.int32(target)), expected, atol=1e-6)
    assert maps._cache_size() == 1


@pytest.mark.thorough
def test_layers_before_are_not_differentiated():
    model = cj.create_model("cifar_deep")
    x = jnp.asarray(inputs(model, 8))

    def operations(function):
        return jax.jit(function).lower(x).compile().cost_analysis()["flops"]

    def plain(x):  # a model is no function that jit could take
        return model(x)

    forward = operations(plain)
    with_map = operations(lambda x: grad_cam(model, x, "conv4", 3))
    assert with_map < 1.3 * forward


@pytest.mark.thorough
def test_skips_around_the_layer():
    class Skip(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = nn.Conv2D(3, 3, padding="same", name="stem")(x)
            y = nn.Conv2D(3, 3, padding="same", activation=jax.nn.relu, name="branch")(x)
            x = nn.Add(name="add")([x, y])
            return nn.Dense(2, name="logits")(jnp.mean(x, axis=(1, 2)))

    model = cj.Model.from_module(Skip(), (8, 8, 1))
    x = inputs(model, 1)
    maps = cj.explain.activations(model, x, ["branch"])["branch"]
    heat = np.maximum(np.asarray(maps @ model.params["logits"]["kernel"])[0, ..., 1], 0)
    np.testing.assert_allclose(
        grad_cam(model, x, "branch", 1)[0], heat / max(heat.max(), 1e-30), atol=1e-5
    )


def test_an_empty_batch():
    model = small()
    assert grad_cam(model, inputs(model, 0), "conv2").shape == (0, 12, 14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "conv3"}, r"^layer='conv3' names no layer of Small\. Did you mean 'conv2' or"),
        ({"layer": "mean"}, r"layer='mean' has no spatial extent, its output is \[N, 5\]"),
        ({"layer": None}, r"Small has no default layer: give one, e\.g\. layer='conv2'"),
        ({"target": 3}, r"target=3 is out of range: Small has 3 classes"),
        ({"target": -1}, r"target=-1 is out of range"),
        ({"target": "dgo"}, r"target='dgo' is no class of Small\. Did you mean 'dog'\?"),
        ({"target": [0]}, r"target has 1 classes for 3 images"),
        ({"target": 1.0}, r"target must be None, a class number, a name .* got 1\.0"),
        ({"target": True}, r"target must be None, .* got True"),
        ({"images": np.zeros((1, 10, 14, 2), np.float32)}, r"takes inputs \[N, 12, 14, 2\]"),
        ({"images": np.zeros((12, 14, 2), np.float32)}, r"a single image needs a batch axis"),
        ({"images": np.zeros((1, 12, 14, 2), np.uint8)}, r"takes preprocessed float32 inputs"),
        ({"images": np.full((1, 12, 14, 2), 255.0, np.float32)}, r"images reach 255, so they are"),
        ({"images": np.full((1, 12, 14, 2), np.nan, np.float32)}, r"images hold NaN"),
    ],
)
def test_errors(arguments, message):
    model = small(label_names=("cat", "dog", "dog house"))
    chosen = {"images": inputs(model), "layer": "conv2", **arguments}
    with pytest.raises(ValueError, match=message) as caught:
        grad_cam(model, **chosen)
    assert "\n" not in str(caught.value)


def test_a_net_without_maps_says_so() -> None:
    mlp = cj.create_model("mlp", input_shape=(3, 3, 1), units=(4,), num_classes=2)
    with pytest.raises(ValueError, match=r"^mlp has no layer with height and width to make maps"):
        cj.explain.grad_cam(mlp, jnp.zeros((1, 3, 3, 1)))


@pytest.mark.thorough
def test_other_errors():
    with pytest.raises(ValueError, match="Small has no label names: give a class number"):
        grad_cam(small(), inputs(small()), "conv2", "dog")
    twice = small(label_names=("crane", "cat", "crane"))
    with pytest.raises(ValueError, match="'crane' is the name of classes 0 and 2: give the number"):
        grad_cam(twice, inputs(twice), "conv2", "crane")
    # What cannot be explained needs no weights.
    headless = cj.Model.abstract(*build("mobilenet", alpha=0.25, include_top=False))
    with pytest.raises(ValueError, match=r"mobilenet has no head \(include_top=False\)"):
        grad_cam(headless, inputs(headless))
    tiny = cj.Model.abstract(*build("mobilenet", alpha=0.25, input_shape=(32, 32, 3)))
    with pytest.raises(ValueError, match=r"no spatial extent, its output is \[N, 1, 1, 256\]"):
        grad_cam(tiny, inputs(tiny))
    broken = small()
    broken = broken.replace(variables=jax.tree.map(lambda a: a * np.nan, broken.variables))
    with pytest.raises(ValueError, match=r"logits of Small for images \[0, 1, 2\] are not finite"):
        grad_cam(broken, inputs(broken), "conv2")


def test_a_layer_called_twice_has_no_single_map():
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            conv = nn.Conv2D(1, 3, padding="same", name="conv")
            return nn.Dense(2, name="logits")(jnp.mean(conv(conv(x)), axis=(1, 2)))

    model = cj.Model.from_module(Twice(), (8, 8, 1))
    with pytest.raises(ValueError, match="layer='conv' is called 2 times"):
        grad_cam(model, inputs(model), "conv")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "name",
    marked(
        [
            name
            for name in representatives()
            if BUILDERS[name].cam_layer and len(BUILDERS[name].input_shape) == 3
        ],
        "inception_v3",
        "xception",
    ),
)
def test_the_default_layer_of_every_model_has_a_map(name):
    from cnnjax.explain.cam import named_layer

    model = cj.Model.abstract(*build(name))
    assert named_layer(model, None) == model.spec.cam_layer


def mobilenet():
    file = SHARED / "weights" / "mobilenet_v1_0.25_224_keras.weights.h5"
    if not file.is_file():
        pytest.skip(f"needs real weights: no {file}")
    return cj.create_model("mobilenet", alpha=0.25, weights=file)


@pytest.mark.thorough
def test_real_photos():
    model = mobilenet()
    files = sorted((SHARED / "photos").iterdir())
    heat = np.asarray(grad_cam(model, plot.read_photos(model, files).inputs))
    assert heat.shape == (10, 224, 224)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat.max((1, 2)).min() > 0.9


@pytest.mark.thorough
def test_dog_and_cat_in_one_image():
    model = mobilenet()
    dog, cat = (75, 10, 168, 140), (40, 120, 205, 222)
    photo = plot.read_photos(model, [SHARED / "photos" / "bull_mastiff_and_tabby.png"])
    x = jnp.concatenate([photo.inputs, photo.inputs])
    heat = grad_cam(model, x, target=["bull_mastiff", "tabby"])
    right = cj.explain.pointing_game(heat, [dog, cat])
    wrong = cj.explain.pointing_game(heat, [cat, dog])
    assert right.hits.tolist() == [True, True]
    assert (right.shares > 1.5 * right.chances).all()
    assert (right.shares > 1.5 * wrong.shares).all()
