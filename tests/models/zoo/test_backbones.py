"""The six families: counts, and every layer against Keras' own through a weight file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import BUILDERS, Model, summary
from cnnjax.models.builder import build
from cnnjax.models.initial import initialiser
from experiments import parity

# With and without the top, as published (MobileNet by its alpha).
PARAMETERS = [
    ("resnet50", {}, 25_636_712, 23_587_712),
    ("vgg16", {}, 138_357_544, 14_714_688),
    ("vgg19", {}, 143_667_240, 20_024_384),
    ("xception", {}, 22_910_480, 20_861_480),
    ("inception_v3", {}, 23_851_784, 21_802_784),
    ("mobilenet", {"alpha": 1.0}, 4_253_864, 3_228_864),
    ("mobilenet", {"alpha": 0.75}, 2_601_976, 1_832_976),
    ("mobilenet", {"alpha": 0.5}, 1_342_536, 829_536),
    ("mobilenet", {"alpha": 0.25}, 475_544, 218_544),
]

# Kept small: an image of few pixels goes through every layer all the same.
ODD = {
    "vgg16": (37, 50),
    "vgg19": (45, 34),
    "resnet50": (33, 58),
    "inception_v3": (75, 98),
    "xception": (71, 90),
    "mobilenet": (51, 32),
}

FAMILIES = sorted(ODD)


def abstract(name, **arguments):
    return Model.abstract(*build(name, **arguments))


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "arguments", "with_top", "without"), PARAMETERS)
def test_number_of_parameters(name, arguments, with_top, without):
    assert summary(abstract(name, **arguments)).parameters == with_top
    assert summary(abstract(name, include_top=False, **arguments)).parameters == without


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet50", 177),
        ("vgg16", 23),
        ("vgg19", 26),
        ("xception", 134),
        ("inception_v3", 313),
        ("mobilenet", 91),
    ],
)
def test_number_of_layers_counts_every_pad_and_activation(name, layers):
    assert len(abstract(name).layer_names) == layers


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet50", (5, 5, 2048)),
        ("vgg16", (4, 4, 512)),
        ("xception", (5, 5, 2048)),
        ("inception_v3", (3, 3, 2048)),
        ("mobilenet", (4, 4, 1024)),
    ],
)
def test_map_of_150_pixels(name, shape):
    model = abstract(name, include_top=False, input_shape=(150, 150, 3))
    assert summary(model).rows[-1].output_shape == shape


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.thorough
def test_the_spec_names_layers_that_are_there(name):
    model = abstract(name)
    assert {model.spec.cam_layer, *model.spec.head} <= set(model.layer_names)
    assert model.spec.min_size == BUILDERS[name].min_size
    bare = abstract(name, include_top=False)
    assert bare.spec.head == ()
    assert bare.spec.num_classes == 0
    assert not set(model.spec.head) & set(bare.layer_names)


@pytest.mark.thorough
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooled_features(pooling):
    arguments = {"include_top": False, "alpha": 0.25, "input_shape": (32, 40, 3)}
    model = cj.create_model("mobilenet", pooling=pooling, **arguments)
    plain = cj.create_model("mobilenet", **arguments)
    x = parity.images(model, 2, 0)
    reduce = {"avg": jnp.mean, "max": jnp.max}[pooling]
    assert model(x).shape == (2, 256)
    np.testing.assert_allclose(model(x), reduce(plain(x), (1, 2)), rtol=1e-5, atol=1e-6)


def worst(lines):
    wrong = [line for line in lines if not line.relative <= 1e-4]
    return "; ".join(f"{line.layer}: {line.relative:.1e}" for line in wrong)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["mobilenet", "resnet50", "vgg16"])
def test_every_layer_equals_keras_at_an_odd_size(name):
    alpha = {"alpha": 0.25} if name == "mobilenet" else {}
    pair = parity.twins(name, ODD[name], seed=1, **alpha)
    lines = parity.compare(pair, batch=2)
    assert len(lines) == len(summary(pair.ours).rows)
    assert worst(lines) == ""


@pytest.mark.slow
@pytest.mark.parametrize("file_format", parity.FORMATS)
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_equals_keras_through_every_format(name, include_top, file_format):
    pair = parity.twins(name, ODD[name], file_format, seed=2, include_top=include_top)
    assert worst(parity.compare(pair)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("size", ["default", "minimum", (150, 150)])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_equals_keras_at_other_sizes(name, size):
    builder = BUILDERS[name]
    sizes = {"default": builder.input_shape[:2], "minimum": (builder.min_size,) * 2}
    pair = parity.twins(name, sizes.get(size, size), include_top=False)
    assert worst(parity.compare(pair)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75, 1.0])
def test_every_width_of_mobilenet_equals_keras(alpha):
    pair = parity.twins("mobilenet", (64, 64), alpha=alpha)
    assert worst(parity.compare(pair)) == ""


def features(name, size):
    alpha = {"alpha": 0.25} if name == "mobilenet" else {}
    return parity.twins(name, size, include_top=False, pooling="avg", **alpha)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "mobilenet"),
    ],
)
def test_training_equals_keras(name):
    """Outputs with the batch's statistics, their moving averages, and the kernels' gradients."""
    worst = parity.compare_training(features(name, ODD[name])).worst()
    assert {kind: line for kind, line in worst.items() if not line.relative < parity.EXACT} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_training_in_float32_is_as_close_to_float64_as_keras(name):
    ours, theirs = (t.worst() for t in parity.compare_rounding(features(name, ODD[name])))
    # That of a gradient is up to the few values which rounding moves across zero.
    multiples = {"outputs": 3, "statistics": 3, "gradient of the first kernel": 10}
    for kind in multiples.keys() & theirs.keys():
        bound = multiples[kind] * theirs[kind].relative + 1e-6
        assert ours[kind].relative < bound, (kind, ours[kind], theirs[kind])


@pytest.mark.parametrize("name", FAMILIES)
def test_sizes_below_the_minimum_are_refused(name):
    size = BUILDERS[name].min_size
    with pytest.raises(ValueError, match=rf"too small for '{name}': at least {size}x{size}"):
        build(name, input_shape=(size, size - 1, 3))


def test_arguments_that_do_not_exist_are_refused():
    with pytest.raises(
        ValueError, match=r"alpha of 'mobilenet' must be one of 0\.25, 0\.5, .*0\.3"
    ):
        build("mobilenet", alpha=0.3)
    with pytest.raises(ValueError, match="no argument 'alpha'"):
        build("vgg16", alpha=0.5)
    with pytest.raises(ValueError, match="pooling must be None, 'avg' or 'max', got 'mean'"):
        build("vgg16", include_top=False, pooling="mean")
    with pytest.raises(ValueError, match="pooling='avg' is for a model with include_top=False"):
        build("vgg16", pooling="avg")
    with pytest.raises(ValueError, match=r"preprocessing='caffe' is for RGB.*1 channels"):
        build("vgg16", input_shape=(64, 64, 1))


@pytest.mark.thorough
def test_a_nan_is_beyond_every_tolerance(monkeypatch, capsys):
    lines = [parity.Line("a", (1,), 0.0, 0.0), parity.Line("b", (1,), np.nan, np.nan)]
    monkeypatch.setattr(parity, "compare", lambda *_: lines)
    size = (32, 32)
    with pytest.raises(SystemExit, match="1"):
        parity.main(parity.Config(model="mobilenet", alpha=0.25, size=size, include_top=False))
    assert "nan in b" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_second_model_of_a_kind_compiles_nothing():
    arguments = {"alpha": 0.25, "include_top": False, "input_shape": (33, 32, 3)}
    cj.create_model("mobilenet", seed=0, **arguments)
    size = initialiser(False)._cache_size()
    cj.create_model("mobilenet", seed=1, **arguments)
    assert initialiser(False)._cache_size() == size > 0


@pytest.mark.thorough
def test_features_are_not_predicted_from_and_not_trained():
    model = cj.create_model(
        "mobilenet", alpha=0.25, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    image_list = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="no head"):
        cj.predict(model, image_list)
    with pytest.raises(ValueError, match="no head"):
        cj.fit(model, (image_list, np.zeros(4, np.int32)), cj.TrainingConfig(epochs=1))


@pytest.mark.thorough
def test_a_frozen_normalisation_keeps_its_statistics_and_a_free_one_does_not():
    model = cj.create_model("mobilenet", alpha=0.25, num_classes=2, input_shape=(32, 32, 3))
    image_list = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    config = cj.TrainingConfig(epochs=1, batch_size=4, frozen=("conv1*", "conv_[dp]w_[1-9]*"))
    run = cj.fit(model, (image_list, np.arange(8) % 2), config)
    before, after = model.state["batch_stats"], run.model.state["batch_stats"]
    for layer, statistics in before.items():
        same = all(np.array_equal(after[layer][k], v) for k, v in statistics.items())
        assert same, layer


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["mobilenet", pytest.param("xception", marks=pytest.mark.thorough)]
)
def test_every_parameter_gets_a_gradient(name):
    size = BUILDERS[name].min_size
    arguments = {"alpha": 0.25} if name == "mobilenet" else {}
    model = cj.create_model(name, num_classes=3, input_shape=(size, size, 3), **arguments)
    functions = model.functions()
    x = parity.images(model, 2, 0)

    def loss(params):
        logits, _ = functions.apply_train(params, model.state, x, jax.random.key(0))
        return jnp.sum(logits * jnp.arange(3.0).reshape(1, 3))

    gradients = trees.flatten(jax.jit(jax.grad(loss))(model.params))
    assert [k for k, g in gradients.items() if not np.abs(g).max() > 0] == []
