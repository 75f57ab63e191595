"""Models of texts: equal to the same nets in Keras; with their vocabulary on disk and in use."""

import functools
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen
from keras import layers

import cnnjax as cj
from cnnjax import nn
from cnnjax.core import trees
from cnnjax.data import Vocabulary
from cnnjax.models import UnknownWords, UnreadableModel, receptive_fields
from cnnjax.models.builder import build

WORDS = tuple("abcdefghij")
VOCABULARY = Vocabulary(WORDS)
VARIANTS = {
    "conv1d": ("imdb_conv1d", {}),
    "gru": ("imdb_gru", {}),
    "lstm": ("imdb_gru", {"cell": "lstm"}),
}


@functools.cache
def create(variant, length=60, **more):
    name, arguments = VARIANTS[variant]
    return cj.create_model(name, input_shape=(length,), vocabulary=VOCABULARY, **arguments, **more)


def abstract(variant, length=500, **more):
    """The default model, of which only shapes are known."""
    name, arguments = VARIANTS[variant]
    built = build(name, input_shape=(length,), **arguments, **more)
    return cj.Model.abstract(*built)


def recurrent(kind):
    return [getattr(layers, kind)(64, name=kind.lower())]


KERAS = {
    "conv1d": lambda: [
        layers.Conv1D(32, 7, activation="relu", name="conv1"),
        layers.MaxPooling1D(5, name="pool1"),
        layers.Conv1D(32, 7, activation="relu", name="conv2"),
        layers.GlobalMaxPooling1D(name="global_max_pooling"),
    ],
    "gru": lambda: recurrent("GRU"),
    "lstm": lambda: recurrent("LSTM"),
}


@functools.cache
def keras_model(variant, length, size):
    with jax.numpy_rank_promotion("allow"):
        return keras.Sequential(
            [
                keras.Input((length,), dtype="int32"),
                layers.Embedding(size, 128, name="embedding"),
                *KERAS[variant](),
                layers.Dense(1, name="logits"),
            ]
        )


def tokens(count, length=60, size=VOCABULARY.size):
    return np.random.default_rng(0).integers(0, size, (count, length), np.int32)


@pytest.mark.sample(1)
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_are_kerass_in_name_shape_and_size(variant):
    model, oracle = abstract(variant), keras_model(variant, 500, 10_000)
    table = cj.summary(model)
    assert model.layer_names == tuple(layer.name for layer in oracle.layers)
    assert [r.output_shape for r in table.rows] == [x.output.shape[1:] for x in oracle.layers]
    assert [r.parameters for r in table.rows] == [x.count_params() for x in oracle.layers]
    assert table.parameters == oracle.count_params()
    assert model.spec.head == ("logits",)


def test_the_parameters_of_the_reported_net():
    assert cj.summary(abstract("conv1d")).parameters == 1_315_937


def test_the_recurrent_nets_are_of_like_size():
    sizes = [cj.summary(abstract(v)).parameters - 10_000 * 128 for v in VARIANTS]
    assert sizes == [35_937, 37_313, 49_473]


@pytest.mark.sample(1)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.thorough
def test_outputs_and_gradients_equal_kerass(variant):
    model, oracle = create(variant), keras_model(variant, 60, VOCABULARY.size)
    rng = np.random.default_rng(1)
    params = trees.map_flat(
        lambda path, leaf: (
            jnp.asarray(rng.standard_normal(leaf.shape, np.float32)) / 4
            if path.endswith("bias")
            else leaf * (10 if path.endswith("embeddings") else 1)
        ),
        model.params,
    )
    names = ("embeddings", "kernel", "recurrent_kernel", "bias")
    for layer, weights in params.items():
        oracle.get_layer(layer).set_weights([np.asarray(weights[n]) for n in names if n in weights])
    x, labels = tokens(3), jnp.array([0, 1, 1])
    fixed = [v.value for v in oracle.non_trainable_variables]

    def loss_of(logits):
        return cj.metrics.sigmoid_cross_entropy(logits, labels).sum(), logits

    @jax.jit
    def by_keras(weights):
        return loss_of(oracle.stateless_call(weights, fixed, x)[0])

    @jax.jit
    def by_us(params):
        return loss_of(model.functions().apply(params, {}, x))

    with jax.numpy_rank_promotion("allow"):
        expected, logits = jax.grad(by_keras, has_aux=True)(
            [v.value for v in oracle.trainable_variables]
        )
    found, ours = jax.grad(by_us, has_aux=True)(params)
    np.testing.assert_allclose(ours, logits, rtol=1e-5, atol=1e-5)
    for variable, gradient in zip(oracle.trainable_variables, expected, strict=True):
        layer, weight = variable.path.split("/")[-2:]
        layer = layer.removesuffix("_cell")
        np.testing.assert_allclose(found[layer][weight], gradient, rtol=1e-4, atol=1e-5)


def test_the_table_has_work_and_receptive_fields_of_sequences():
    table = cj.summary(abstract("conv1d", 60))
    rows = {row.name: row for row in table.rows}
    steps = {"conv1": 54, "conv2": 4}
    channels = {"conv1": 128, "conv2": 32}
    for name, count in steps.items():
        assert rows[name].output_shape == (count, 32)
        assert rows[name].flops == 2 * count * 7 * channels[name] * 32
    assert rows["embedding"].flops == rows["pool1"].flops == 0
    fields = {name: row.receptive_field for name, row in rows.items()}
    assert fields == {
        "embedding": (1,), "conv1": (7,), "pool1": (11,), "conv2": (41,),
        "global_max_pooling": "all", "logits": "all",
    }  # fmt: skip
    assert "  41\n" in str(table)
    for variant, gates in (("gru", 3), ("lstm", 4)):
        rows = {row.name: row for row in cj.summary(abstract(variant, 60)).rows}
        assert rows[variant].flops == 2 * 60 * (128 + 64) * gates * 64
        assert rows[variant].receptive_field == "all"


class Windows(linen.Module):
    """Windows of many kinds over a sequence of vectors."""

    @linen.compact
    def __call__(self, x):
        x = nn.Conv1D(2, 3, padding="causal", dilation_rate=2, name="causal")(x)
        x = nn.Conv1D(2, 4, padding="same", strides=2, name="same")(x)
        x = nn.MaxPooling1D(3, strides=2, padding="same", name="pool")(x)
        x = nn.Conv1D(2, 2, name="valid")(x)
        return nn.GRU(2, name="gru")(nn.GRU(3, return_sequences=True, name="steps")(x))


@pytest.mark.thorough
def test_receptive_fields_of_sequences_are_measured_too(monkeypatch):
    model = cj.Model.from_module(Windows(), (40, 1), preprocessing="none")
    middles = {"causal": 20, "same": 10, "valid": 4}
    # Averages in the place of maxima, whose gradient leaves the losers out.
    monkeypatch.setattr(nn.sequence, "max_pool", nn.average_pool)

    @jax.jit
    @jax.jacrev
    def outputs(x):
        _, state = model.module.apply(model.variables, x, capture_intermediates=True)
        found = state["intermediates"]
        return {k: found[k]["__call__"][0][0, step, 0] for k, step in middles.items()}

    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 40, 1), np.float32))
    fields = receptive_fields(model)
    for layer, gradient in outputs(x).items():
        inputs, field = np.flatnonzero(gradient), fields[layer]
        assert field.box((middles[layer], 0))[::2] == (inputs[0], inputs[-1] + 1)
        assert field.extent[1] == field.jump[1] == 1
    rows = {row.name: row for row in cj.summary(model).rows}
    assert rows["steps"].receptive_field is None
    assert rows["gru"].receptive_field is None


# Texts in, names out.


def test_texts_are_predicted_by_the_models_own_vocabulary():
    model = create("conv1d", label_names=("bad", "good"))
    texts = ["a b c", "A, b! c?", "j i h g x"]
    probs = cj.predict(model, texts)
    assert probs.shape == (3, 1)
    np.testing.assert_array_equal(probs[0], probs[1])
    np.testing.assert_array_equal(probs, cj.predict(model, VOCABULARY.encode_all(texts, 60)))
    best = cj.decode_predictions(probs, 1, model.spec.label_names)
    assert best[0][0][1] in ("bad", "good")


def test_a_text_of_unknown_words_only_is_said():
    with pytest.warns(UnknownWords, match=r"of texts \[1\] the model knows no word"):
        cj.predict(create("conv1d"), ["a b", "x y z"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cj.predict(create("conv1d"), ["a", ""]), r"texts\[1\] is empty"),
        (lambda: cj.predict(create("conv1d"), "a b"), "must be a list of texts, got a single one"),
        (lambda: cj.predict(create("conv1d"), [[1, 2]]), r"texts\[0\] must be a text, got list"),
        (
            lambda: cj.predict(create("conv1d"), tokens(1, size=15)),
            r"the inputs: the words have numbers in \[.*14\], those that imdb_conv1d knows are in "
            r"\[0, 14\)",
        ),
        (lambda: cj.predict(create("conv1d"), tokens(1) - 1), r"numbers in \[-1, "),
        (
            lambda: cj.predict(cj.create_model("imdb_conv1d", input_shape=(50,)), ["a"]),
            "imdb_conv1d has no vocabulary, so it takes numbers of words only",
        ),
        (
            lambda: cj.create_model("imdb_conv1d", vocabulary=VOCABULARY, vocabulary_size=99),
            "vocabulary_size=99 does not fit the vocabulary, which has 14 numbers",
        ),
        (
            lambda: cj.create_model("lenet", vocabulary=VOCABULARY),
            "vocabulary is for a model of texts, and 'lenet' is none",
        ),
        (
            lambda: cj.create_model("imdb_gru", preprocessing="unit"),
            "preprocessing='unit' does not suit 'imdb_gru', whose own is 'tokens'",
        ),
        (
            lambda: cj.create_model("lenet", preprocessing="tokens"),
            "preprocessing='tokens' does not suit 'lenet', whose own is 'unit'",
        ),
        (lambda: cj.create_model("imdb_gru", cell="rnn"), "cell of 'imdb_gru' must be one of gru"),
        (lambda: cj.create_model("imdb_conv1d", input_shape=(40,)), "too small.*at least 41"),
        (lambda: cj.create_model("imdb_gru", input_shape=(4, 3)), r"must be \(length,\)"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_smallest_text_fits():
    for variant, length in (("conv1d", 41), ("gru", 1)):
        assert cj.summary(abstract(variant, length)).rows[-1].output_shape == (1,)


# On disk.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.thorough
def test_a_saved_model_has_its_vocabulary(variant, tmp_path):
    model = create(variant, label_names=("bad", "good"))
    again = cj.load(cj.save(model, tmp_path / "saved"))
    assert again.spec == model.spec
    assert again.spec.vocabulary == VOCABULARY
    np.testing.assert_array_equal(cj.predict(again, ["a b", "c"]), cj.predict(model, ["a b", "c"]))
    assert "vocabulary" in json.loads((tmp_path / "saved" / "model.json").read_text())
    assert len((tmp_path / "saved" / "model.json").read_text()) < 2000


def test_a_vocabulary_that_is_lost_or_another_is_said(tmp_path):
    folder = cj.save(create("conv1d"), tmp_path / "saved")
    Vocabulary(WORDS[::-1]).save(folder / "vocabulary.json")
    with pytest.raises(UnreadableModel, match="is not the vocabulary that the model was trained"):
        cj.load(folder)
    (folder / "vocabulary.json").write_text("{}")
    with pytest.raises(UnreadableModel, match="holds no vocabulary"):
        cj.load(folder)
    (folder / "vocabulary.json").unlink()
    with pytest.raises(UnreadableModel, match=r"holds no vocabulary\.json"):
        cj.load(folder)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.thorough
def test_keras_loads_what_is_exported(variant, tmp_path):
    model, oracle = create(variant, seed=3), keras_model(variant, 60, VOCABULARY.size)
    oracle.load_weights(cj.export_weights(model, tmp_path / "x.weights.h5"))
    x = tokens(3)
    with jax.numpy_rank_promotion("allow"):
        expected = oracle(x)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("variant", "ending"), [("conv1d", ".weights.h5"), ("gru", ".keras"), ("lstm", ".weights.h5")]
)
def test_weights_of_keras_are_loaded(variant, ending, tmp_path):
    oracle, file = keras_model(variant, 60, VOCABULARY.size), tmp_path / f"x{ending}"
    (oracle.save if ending == ".keras" else oracle.save_weights)(file)
    model = create(variant, weights=str(file))
    x = tokens(3)
    with jax.numpy_rank_promotion("allow"):
        expected = oracle(x)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


# Data and model.


def data(vocabulary, texts=("a b", "b a", "c d", "d c")):
    return cj.data.from_texts(texts, [0, 1, 0, 1], vocabulary, length=60)


def test_data_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="texts was encoded by another vocabulary"):
        cj.evaluate(create("conv1d"), data(Vocabulary(WORDS[::-1])))
    larger = Vocabulary((*WORDS, "x"))
    model = cj.create_model("imdb_conv1d", input_shape=(60,), vocabulary_size=VOCABULARY.size)
    with pytest.raises(ValueError, match=r"texts: the words have numbers in \[0, 14\], those that"):
        cj.evaluate(model, data(larger, ("a", "x", "b", "c")))
    assert cj.evaluate(model, data(VOCABULARY))["loss"] > 0
