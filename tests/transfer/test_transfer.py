"""Heads of one's own, groups of layers to freeze, and training in two stages."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from modules import Convnet

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import BUILDERS, Model
from cnnjax.models.builder import build
from cnnjax.models.graph import weighted_layers
from cnnjax.models.pretrained.fill import NewHead
from cnnjax.models.saved import from_spec
from cnnjax.models.saved_spec import read_spec
from cnnjax.training import TrainState
from cnnjax.transfer import Head, attach, base_layers, layers_before, replace_head

FAMILIES = ("inception_v3", "mobilenet", "resnet50", "vgg16", "vgg19", "xception")
HEAVY = [pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "mobilenet"]
SMALL: dict[str, Any] = {"alpha": 0.25, "input_shape": (32, 32, 3), "include_top": False}
# One classifier for many tests: a model of another form has to be compiled.
HEAD: dict[str, Any] = {
    "pooling": "avg", "classifier": (16, 8), "classifier_dropout": 0.5, "num_classes": 3,
}  # fmt: skip


@functools.cache
def abstract(name: str, **arguments: Any) -> Model:
    return Model.abstract(*build(name, **arguments))


def minimal(name: str, **arguments: Any) -> dict[str, Any]:
    """Arguments of the smallest model of a family."""
    size = BUILDERS[name].min_size
    alpha = {"alpha": 0.25} if name == "mobilenet" else {}
    return {"input_shape": (size, size, 3), "include_top": False, **alpha, **arguments}


def small(seed: int = 0, **arguments: Any) -> Model:
    return cj.create_model("mobilenet", seed=seed, **{**SMALL, **arguments})


def lively(model: Model) -> Model:
    """A MobileNet with larger scales in every normalisation, so that its features are no zeros."""

    def louder(path: str, leaf: jax.Array) -> jax.Array:
        return 4.5 * leaf if path.endswith("gamma") else leaf

    return model.replace(variables=trees.map_flat(louder, model.variables))


def image_list(count: int = 8, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32) % 2
    images[labels == 1, : size // 2] //= 2
    return images, labels


def same(a: Any, b: Any) -> bool:
    return trees.tree_hash(a) == trees.tree_hash(b)


def layers_of(model: Model) -> dict[str, dict[str, Any]]:
    """{layer: {collection/weight: array}}."""
    layers: dict[str, dict[str, Any]] = {}
    for path, leaf in trees.flatten(model.variables).items():
        collection, _, rest = path.partition("/")
        layer, _, weight = rest.rpartition("/")
        layers.setdefault(layer, {})[f"{collection}/{weight}"] = leaf
    return layers


def assert_same_base(model: Model, base: Model, but: tuple[str, ...] = ()) -> None:
    ours, theirs = layers_of(model), layers_of(base)
    for layer in set(theirs) - set(base.spec.head) - set(but):
        assert same(ours[layer], theirs[layer]), layer


# A head without nesting


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "pooling", "units"),
    [
        pytest.param("inception_v3", "max", (16, 8), marks=pytest.mark.slow),
        ("mobilenet", None, ()),
        ("mobilenet", None, (16,)),
        ("mobilenet", "avg", ()),
        ("mobilenet", "max", (16, 8)),
        pytest.param("resnet50", "avg", (), marks=pytest.mark.slow),
        pytest.param("resnet50", "max", (16,), marks=pytest.mark.slow),
        ("vgg16", None, (16,)),
        pytest.param("vgg19", None, (), marks=pytest.mark.slow),
        pytest.param("xception", "avg", (16, 8), marks=pytest.mark.slow),
    ],
)
@pytest.mark.thorough
def test_layers_of_a_classifier(name: str, pooling: str | None, units: tuple[int, ...]) -> None:
    model = abstract(
        name, **minimal(name, pooling=pooling, classifier=units, classifier_dropout=0.5),
        num_classes=3,
    )  # fmt: skip
    plain = abstract(name, **minimal(name, pooling=pooling))
    names = model.layer_names
    assert names[: len(plain.layer_names)] == plain.layer_names
    new = list(names[len(plain.layer_names) :])
    wanted = [n for i in range(1, len(units) + 1) for n in (f"dense{i}", f"dropout{i}")]
    wanted = ["dropout1"] if not units else wanted
    assert new == ["flatten"] * (pooling is None) + [*wanted, "logits"]
    dense = [n for n in new if n.startswith(("dense", "logits"))]
    assert model.spec.head == tuple(dense)
    assert (model.spec.num_classes, cj.summary(model).rows[-1].output_shape) == (3, (3,))
    # No name of Keras' is taken in another meaning.
    assert set(abstract(name).layer_names) & set(new) <= {"flatten"}
    assert set(weighted_layers(model)) - set(weighted_layers(plain)) == set(dense)


@pytest.mark.thorough
def test_logits_of_a_classifier_are_those_worked_out_on_the_features() -> None:
    model = lively(small(**HEAD))
    base = lively(small(pooling="avg"))
    assert_same_base(model, base)
    x = model.spec.preprocess(image_list()[0])
    h = base(x)
    assert float(jnp.abs(h).max()) > 0.1
    for layer in ("dense1", "dense2"):
        p = model.params[layer]
        h = jax.nn.relu(h @ p["kernel"] + p["bias"][None])
    p = model.params["logits"]
    np.testing.assert_allclose(model(x), h @ p["kernel"] + p["bias"][None], rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
def test_dropout_of_a_classifier_acts_in_training_only() -> None:
    model = lively(small(**HEAD))
    without = model.replace(
        module=build("mobilenet", **{**SMALL, **HEAD, "classifier_dropout": 0.0})[0]
    )
    x = model.spec.preprocess(image_list()[0])
    np.testing.assert_array_equal(model(x), without(x))
    apply = jax.jit(model.functions(("conv*",)).apply_train)
    first, again, other = (
        apply(model.params, model.state, x, jax.random.key(k))[0].tolist() for k in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.sample(1)
@pytest.mark.parametrize("units", [(), (16, 8)])
def test_dropout_of_an_mlp(units: tuple[int, ...]) -> None:
    arguments = {"input_shape": (1, 1, 4), "num_classes": 3, "units": units}
    model = cj.create_model("mlp", dropout=0.5, **arguments)
    plain = cj.create_model("mlp", **arguments)
    assert [n for n in model.layer_names if n not in plain.layer_names] == [
        f"dropout{i}" for i in range(1, max(len(units), 1) + 1)
    ]
    assert same(model.variables, plain.variables)
    x = np.ones((64, 1, 1, 4), np.float32)
    np.testing.assert_array_equal(model(x), plain(x))
    logits, _ = model.functions().apply_train(model.params, {}, x, jax.random.key(0))
    assert len(np.unique(np.asarray(logits), axis=0)) > 8  # of 16 ways to drop four
    logits, _ = plain.functions().apply_train(plain.params, {}, x, jax.random.key(0))
    assert len(np.unique(np.asarray(logits), axis=0)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier": (8,), "include_top": True}, r"classifier=\(8,\) is for .* include_top=Fal"),
        ({"classifier": 8}, r"classifier must be whole numbers >= 1, e\.g\. .*, got 8"),
        ({"classifier": (8, 0)}, "classifier must be whole numbers >= 1"),
        ({"classifier": (8,), "classifier_dropout": 1.0}, r"classifier_dropout must .*\), got 1.0"),
        ({"classifier_dropout": 0.5}, r"classifier_dropout=0\.5 is for a model with a classifier"),
        ({"classifier": (8,), "num_classes": 0}, "num_classes must be a whole number >= 1, got 0"),
        ({"classifier": (), "num_classes": 3, "label_names": "ab"}, "label_names has 2 names"),
        ({"label_names": ("a", "b")}, "label_names are for a model with a head .*or a classifier"),
        ({"clasifier": (8,)}, "no argument 'clasifier'. Did you mean 'classifier'"),
    ],
)
def test_a_classifier_that_cannot_be_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("mobilenet", **{**SMALL, **changes})


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", [".weights.h5", ".npz", ".safetensors"])
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.thorough
def test_a_weight_file_keeps_its_base_under_a_new_head(
    tmp_path: Path, include_top: bool, ending: str
) -> None:
    source = small(1, include_top=include_top, pooling=None if include_top else "avg")
    source = source.replace(variables=jax.tree.map(lambda v: v + 0.125, source.variables))
    file = cj.export_weights(source, tmp_path / f"base{ending}")
    with pytest.warns(NewHead, match=r"the head \(dense1, dense2, logits\) is new"):
        model = small(3, weights=str(file), **HEAD)
    assert_same_base(model, source)
    assert same(*[{k: m.params[k] for k in model.spec.head} for m in (model, small(3, **HEAD))])
    # Its own file holds the head as well.
    cj.export_weights(model, tmp_path / f"whole{ending}")
    again = small(4, weights=tmp_path / f"whole{ending}", **HEAD)
    assert same(again.variables, model.variables)


def test_a_new_head_keeps_how_images_are_brought_to_size() -> None:
    model = cj.create_model("lenet")
    model = model.replace(spec=dataclasses.replace(model.spec, crop=0.875))
    assert replace_head(model, 3).spec.crop == 0.875


@pytest.mark.thorough
def test_saved_and_loaded_by_the_spec_alone(tmp_path: Path) -> None:
    model = small(5, **HEAD)
    loaded = cj.load(cj.save(model, tmp_path / "model"))
    assert (loaded.spec, loaded.module) == (model.spec, model.module)
    assert same(loaded.variables, model.variables)
    assert same(from_spec(read_spec(tmp_path / "model"), seed=5).variables, model.variables)
    assert cj.summary(loaded) == cj.summary(model)
    assert cj.predict(loaded, image_list()[0]).shape == (8, 3)


@pytest.mark.thorough
def test_a_run_is_loaded_and_reproduced(tmp_path: Path) -> None:
    images, labels = image_list(12)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    data = cj.data.load(tmp_path / "data.npz", validation=0.25)
    model = small(**HEAD)
    config = cj.TrainingConfig(epochs=1, batch_size=4, frozen=base_layers(model), layer_decay=0.9)
    run = cj.fit(model, data, config, directory=tmp_path / "run", verbose=False)
    assert same(cj.load(tmp_path / "run").variables, run.model.variables)
    found = cj.reproduce(tmp_path / "run", verbose=False)
    assert (found.results, found.circumstances) == ([], [])


# Another head


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["mobilenet", *HEAVY])
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.thorough
def test_a_replaced_head(name: str, include_top: bool) -> None:
    # VGG's own head is large: without it.
    top = {"include_top": include_top and not name.startswith("vgg")}
    base = cj.create_model(name, **{**minimal(name), **top}, seed=1)
    head = Head(2, units=(16,), dropout=0.5, pooling="max", label_names=("cat", "dog"))
    model = replace_head(base, head, seed=3)
    assert_same_base(model, base)
    assert model.spec.head == ("dense1", "logits")
    assert (model.spec.num_classes, model.spec.label_names) == (2, ("cat", "dog"))
    assert model.layer_names[-3:] == ("dense1", "dropout1", "logits")
    wanted = from_spec(model.spec, seed=3)  # of the seed, as create_model has it
    assert same(*[{k: m.params[k] for k in model.spec.head} for m in (model, wanted)])
    other = replace_head(model, head, seed=4)
    assert_same_base(other, base)
    assert not same(other.params["logits"], model.params["logits"])


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["imdb_conv1d", "series_conv1d"])
def test_another_number_of_classes_for_texts_and_series(name: str) -> None:
    texts = name == "imdb_conv1d"
    vocabulary = cj.data.Vocabulary.of(["good bad film"]) if texts else None
    shape = (60,) if texts else (40, 2)
    model = cj.create_model(name, input_shape=shape, vocabulary=vocabulary, seed=1)
    changed = replace_head(model, 3)
    assert (changed.spec.num_classes, changed.spec.vocabulary) == (3, vocabulary)
    assert changed.spec.input_shape == shape
    assert_same_base(changed, model)


@pytest.mark.thorough
def test_a_number_keeps_the_form_of_the_head() -> None:
    top = small(1, include_top=True)
    model = replace_head(top, 3)
    assert (model.spec.head, model.spec.num_classes) == (("conv_preds",), 3)
    assert model.params["conv_preds"]["kernel"].shape == (1, 1, 256, 3)
    assert_same_base(model, top)
    own = small(1, **HEAD)
    model = replace_head(own, 5)
    assert model.spec.arguments == own.spec.arguments
    assert model.params["logits"]["kernel"].shape == (8, 5)
    assert not same(model.params["dense1"], replace_head(own, 5, seed=7).params["dense1"])
    model = replace_head(small(1, pooling="avg"), 1)
    assert model.layer_names[-2:] == ("global_average_pooling2d", "logits")


@pytest.mark.thorough
def test_without_a_pooling_of_its_own_a_head_has_the_models() -> None:
    top, flat, pooled = small(include_top=True), small(), small(pooling="avg")

    def pooling(model: Model, head: Head) -> Any:
        return replace_head(model, head).spec.arguments.get("pooling")

    assert [pooling(model, Head(2)) for model in (top, flat, pooled)] == ["avg", None, "avg"]
    assert pooling(pooled, Head(2, pooling="flatten")) is None
    assert pooling(pooled, Head(2, pooling="max")) == "max"
    published = {name: build(name)[0].top_pooling for name in FAMILIES}
    assert published == {**dict.fromkeys(FAMILIES, "avg"), "vgg16": None, "vgg19": None}


@pytest.mark.thorough
def test_what_a_model_knows_of_images_stays() -> None:
    base = small()
    spec = dataclasses.replace(base.spec, resize="pad", interpolation="nearest", weights="file.h5")
    kept = replace_head(base.replace(spec=spec), Head(2)).spec
    assert (kept.resize, kept.interpolation, kept.weights) == ("pad", "nearest", "file.h5")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n.startswith(("separable", "cats")) else [])
        for n, b in sorted(BUILDERS.items())
        if b.head == ("logits",) and len(b.input_shape) == 3
    ],
)
def test_a_small_net_gets_another_number_of_classes(name: str) -> None:
    size = max(BUILDERS[name].min_size, 8)
    model = cj.create_model(name, input_shape=(size, size, BUILDERS[name].input_shape[2]), seed=1)
    changed = replace_head(model, 7)
    assert_same_base(changed, model)
    assert changed.params["logits"]["kernel"].shape[-1] == changed.spec.num_classes == 7
    assert same(replace_head(model, Head(7)).variables, changed.variables)
    with pytest.raises(ValueError, match=rf"{name} is no backbone, so .*replace_head\(model, 7\)"):
        replace_head(model, Head(7, units=(3,)))


@pytest.mark.thorough
def test_numpy_numbers_make_a_head_and_a_cut() -> None:
    head = Head(np.int64(3), units=(np.int32(8),))
    assert (type(head.num_classes), type(head.units[0])) == (int, int)
    assert head == Head(3, units=(8,))
    model = cj.create_model("lenet")
    assert same(replace_head(model, np.int64(3)).variables, replace_head(model, 3).variables)
    assert layers_before(model, np.int64(3)) == layers_before(model, 3)
    with pytest.raises(ValueError, match="layer=99 is out of range"):
        layers_before(model, np.int64(99))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"units": 256}, r"units must be whole numbers >= 1, e\.g\. \(256,\), got 256"),
        ({"units": (8, 0)}, "units must be a whole number >= 1, got 0"),
        ({"units": (True,)}, "units must be a whole number >= 1, got True"),
        ({"num_classes": 2.0}, "num_classes must be a whole number >= 1, got 2.0"),
        ({"dropout": 1}, r"dropout must lie in \[0, 1\), got 1"),
        ({"pooling": "mean"}, "pooling must be None, 'flatten', 'avg' or 'max', got 'mean'"),
        ({"num_classes": 0}, "num_classes must be a whole number >= 1, got 0"),
        ({"num_classes": 2, "label_names": ("a",)}, "label_names has 1 names, the model has 2"),
    ],
)
def test_a_head_that_cannot_be_is_named(head: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_head(small(), Head(**{"num_classes": 3, **head}))


def test_a_module_of_ones_own_has_no_known_head() -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    with pytest.raises(ValueError, match=r"Convnet is a module of your own.*new\.replace\("):
        replace_head(model, 3)
    with pytest.raises(ValueError, match=r"Convnet is a module of your own.*layers_before\("):
        base_layers(model)
    with pytest.raises(ValueError, match="base must be a backbone of create_model, got Convnet"):
        attach(model, model)


def test_a_prefix_of_a_net_has_no_place_for_a_head() -> None:
    prefix = cj.create_model("layers_walk", until="pool2")
    with pytest.raises(ValueError, match=r"layers_walk made with .*until.* has no place for a he"):
        replace_head(prefix, 3)


# Groups of layers


@pytest.mark.parametrize("name", ["mobilenet", *HEAVY])
@pytest.mark.thorough
def test_the_base_is_all_but_the_head(name: str) -> None:
    model = abstract(name, **minimal(name, pooling="avg", classifier=(4,)))
    plain = abstract(name, **minimal(name, pooling="avg"))
    assert base_layers(model) == base_layers(plain) == weighted_layers(plain)
    assert base_layers(abstract(name)) == base_layers(plain)


@pytest.mark.thorough
def test_cuts_of_inception_by_number_and_by_name() -> None:
    model = abstract("inception_v3", include_top=False)
    # As in Keras, see the slow test below: 172 lies within the block that ends in mixed6.
    assert len(layers_before(model, 172)) == 105
    assert model.layer_names.index("mixed5") < 172 < model.layer_names.index("mixed6")
    two_blocks = layers_before(model, 249)
    assert len(two_blocks) == 152
    assert two_blocks == layers_before(model, "mixed8")
    free = [name for name in weighted_layers(model) if name not in two_blocks]
    between = model.layer_names[model.layer_names.index("mixed8") :]
    assert free == [name for name in weighted_layers(model) if name in between]
    assert len(free) == 36


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_cuts_are_those_of_keras(name: str) -> None:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    from experiments.parity import keras_class

    keras.utils.clear_session()
    with jax.numpy_rank_promotion("allow"):
        theirs = getattr(keras.applications, keras_class(name))(weights=None, include_top=False)
    model = abstract(name, include_top=False)
    assert model.layer_names == tuple(layer.name for layer in theirs.layers)
    # As numbers and counted from the end; the numbers of the notes among them.
    for n in {172, 249, 15, 2, len(theirs.layers), -4}:
        if abs(n) <= len(theirs.layers):
            wanted = tuple(layer.name for layer in theirs.layers[:n] if layer.weights)
            if not wanted:  # resnet50 starts with an input and a padding
                with pytest.raises(ValueError, match="nothing to freeze"):
                    layers_before(model, n)
                continue
            assert layers_before(model, n) == wanted, n


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.thorough
def test_what_is_frozen_is_exactly_what_comes_before(name: str) -> None:
    model = abstract(name, **minimal(name, pooling="avg", classifier=(4,)))
    names = weighted_layers(model)
    cut = names[len(names) // 2]
    before = layers_before(model, cut)
    assert before == names[: len(names) // 2]
    # Literal names are patterns that name nothing else.
    held = {
        path.rpartition("/")[0]
        for path in trees.flatten(model.params)
        if any(trees.matches(path, pattern) for pattern in before)
    }
    assert held == set(before)


def test_the_fifth_block_of_vgg() -> None:
    model = abstract("vgg16", include_top=False, classifier=(256,), num_classes=1)
    before = layers_before(model, "block5_conv1")
    assert before == layers_before(model, "block4_pool") == layers_before(model, 15)
    assert before[0], before[-1] == ("block1_conv1", "block4_conv3")
    assert {n for n in weighted_layers(model) if n not in before} == {
        "block5_conv1", "block5_conv2", "block5_conv3", "dense1", "logits",
    }  # fmt: skip


class Nested(linen.Module):
    """A block with a normalisation that has statistics only."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = Block(name="block")(x, train)
        return linen.Dense(2, name="logits")(x.reshape(x.shape[0], -1))


class Block(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Conv(3, (3, 3), name="conv")(x)
        return linen.BatchNorm(not train, use_bias=False, use_scale=False, name="norm")(x)


@pytest.mark.thorough
def test_statistics_without_parameters_are_frozen_too() -> None:
    model = cj.Model.from_module(Nested(), (6, 6, 1))
    frozen = layers_before(model, "logits")
    assert frozen == ("block/conv", "block/norm")
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    config = cj.TrainingConfig(epochs=1, batch_size=4, frozen=frozen)
    run = cj.fit(model, (images, np.arange(8) % 2), config, verbose=False)
    assert same(run.model.state, model.state)
    assert same(run.model.params["block"], model.params["block"])
    assert not same(run.model.params["logits"], model.params["logits"])


class Hidden(linen.Module):
    """A layer with weights that returns two arrays, so that it has no place in the table."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, _ = Two(name="two")(x.reshape(x.shape[0], -1))
        return linen.Dense(2, name="logits")(x)


class Two(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        w = self.param("w", linen.initializers.ones, (1, x.shape[1]))
        return x * w, w


def test_a_layer_without_a_known_place_is_not_left_free_silently() -> None:
    model = cj.Model.from_module(Hidden(), (3, 3, 1))
    with pytest.raises(ValueError, match="Hidden: the place of two among the layers cannot be"):
        layers_before(model, "logits")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("mixd8", r"layer='mixd8' is no layer of mobilenet\. "),
        ("conv_dw_14", r"layer='conv_dw_14' is no layer of mobilenet\. Did you mean 'conv_dw_4"),
        (87, "layer=87 is out of range: mobilenet has 86 layers"),
        (-87, "layer=-87 is out of range"),
        (0, "layer=0: no layer of mobilenet before it has weights"),
        ("conv1", "layer='conv1': no layer of mobilenet before it has weights"),
        (True, "layer must be a name or a number of layers, got True"),
        (2.0, "layer must be a name or a number of layers, got 2.0"),
    ],
)
@pytest.mark.thorough
def test_cuts_that_cannot_be_are_named(layer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layers_before(abstract("mobilenet", **SMALL), layer)


# Training


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["mobilenet", *HEAVY])
def test_a_step_of_every_family_trains_the_head_and_nothing_else(name: str) -> None:
    base = lively(cj.create_model(name, **minimal(name, pooling="avg")))
    model = replace_head(base, Head(2, units=(4,), dropout=0.5))
    frozen = base_layers(model)
    state = TrainState.create(model, optax.sgd(0.1), frozen=frozen)
    trained = {path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(state.trained)}
    assert trained == set(model.spec.head)
    images, labels = image_list(4, BUILDERS[name].min_size)
    config = cj.TrainingConfig(epochs=1, batch_size=4, frozen=frozen)
    run = cj.fit(model, (images, labels), config, verbose=False)
    assert_same_base(run.model, base)
    for layer in model.spec.head:
        assert not same(run.model.params[layer], model.params[layer]), layer


@pytest.mark.slow
def test_two_stages_then_a_block_is_freed() -> None:
    """Five steps: a head on a trained base, base frozen, head trained, a block freed, both."""
    images, labels = image_list(16)
    base = lively(small(pooling="avg"))
    model = replace_head(base, Head(1, units=(8,), label_names=("cat", "dog")))
    config = cj.TrainingConfig(epochs=2, batch_size=8, frozen=base_layers(model))
    first = cj.fit(model, (images, labels), config, verbose=False).model
    assert_same_base(first, base)
    frozen = layers_before(first, "conv_dw_13")
    config = cj.TrainingConfig(
        epochs=2, batch_size=8, optimizer="sgd", learning_rate=1e-2, momentum=0.9, frozen=frozen
    )
    run = cj.fit(first, (images, labels), config, verbose=False)
    before, after = layers_of(first), layers_of(run.model)
    for layer in before:
        assert same(before[layer], after[layer]) == (layer in frozen), layer
    assert set(before) - set(frozen) == {
        "conv_dw_13", "conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn", "dense1", "logits",
    }  # fmt: skip
    assert cj.predict(run.model, images).shape == (16, 1)
