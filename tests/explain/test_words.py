"""Heat of words: against by-hand formulas, and on data whose deciding words are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import plot
from cnnjax.data import Vocabulary, from_texts
from cnnjax.data.texts import template_samples, words_of
from cnnjax.explain import EmptyMap, top_ngrams, word_cam, word_occlusion
from cnnjax.models.builder import build
from cnnjax.nn import Conv1D, Dense, Embedding, GlobalMaxPooling1D

LENGTH = 64


class Small(linen.Module):
    """Embedding, one convolution, global max pooling: learns the templates in seconds."""

    @linen.compact
    def __call__(self, inputs, train=False):
        x = Embedding(106, 16, name="embedding")(inputs)
        x = Conv1D(32, 5, activation=jax.nn.relu, name="conv1")(x)
        return Dense(1, name="logits")(GlobalMaxPooling1D(name="pool")(x))


@pytest.fixture(scope="module")
def trained():
    """The small net on 4,000 templates, and 200 others with their deciding words."""
    samples = template_samples(4200, seed=5)
    vocabulary = Vocabulary.of(s.text for s in samples[200:])
    texts, labels = [s.text for s in samples], [s.label for s in samples]
    train = from_texts(texts[200:], labels[200:], vocabulary, length=LENGTH)
    test = from_texts(texts[:200], labels[:200], vocabulary, length=LENGTH)
    model = cj.Model.from_module(
        Small(), (LENGTH,), preprocessing="tokens", label_names=("neg", "pos"),
        vocabulary=vocabulary,
    )  # fmt: skip
    config = cj.TrainingConfig(epochs=6, batch_size=64, optimizer="adam", learning_rate=5e-3)
    return cj.fit(model, train, config, verbose=False).model, test, samples[:200]


def deciding(test, samples):
    """bool [N, T]: the words of the sentences that decide."""
    marks = np.zeros(test.inputs.shape, bool)
    for mark, sample in zip(marks, samples, strict=True):
        offset = LENGTH - len(words_of(sample.text))
        mark[offset + sample.deciding[0] : offset + sample.deciding[1]] = True
    return marks


@pytest.mark.thorough
def test_the_net_has_learned_what_single_words_do_not_tell(trained):
    model, test, _ = trained
    assert cj.evaluate(model, test)["accuracy"] > 0.97


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["cam", "occlusion"])
def test_the_heat_lies_on_the_words_that_decide(trained, method):
    model, test, samples = trained
    chosen = test.inputs[:60]
    if method == "cam":
        heat = word_cam(model, chosen, "conv1", test.labels[:60].tolist())
    else:
        heat = word_occlusion(model, chosen, test.labels[:60].tolist())
    marks = deciding(test, samples)[:60]
    share = (heat * marks).sum(axis=1) / heat.sum(axis=1)
    chance = marks.sum(axis=1) / (chosen > 1).sum(axis=1)
    assert chance.mean() < 0.2
    assert share.mean() > (0.6 if method == "cam" else 0.7)
    assert np.mean([m[h.argmax()] for m, h in zip(marks, heat, strict=True)]) > 0.9


def test_the_hottest_ngram_has_the_words_that_decide(trained):
    model, test, samples = trained
    targets = test.labels[:60].tolist()
    found = top_ngrams(model, test.inputs[:60], "conv1", targets, count=3)
    marks = deciding(test, samples)[:60]
    hits = [m[n[0].first : n[0].last].any() for m, n in zip(marks, found, strict=True)]
    assert np.mean(hits) > 0.95
    for ngrams, row in zip(found, test.inputs, strict=False):
        assert ngrams[0].heat == 1
        assert sorted(ngrams, key=lambda n: -n.heat) == ngrams
        places = sorted((n.first, n.last) for n in ngrams)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(places))
        first = ngrams[0]
        words = model.spec.vocabulary.decode(row[first.first : first.last])
        assert (words, first.last - first.first) == (first.text, 5)


def random_model(**arguments):
    """With positive weights at the top, so that something speaks for the second class."""
    model = cj.create_model("imdb_conv1d", input_shape=(70,), vocabulary_size=20, **arguments)
    head = jax.tree.map(jnp.abs, model.params["logits"])
    return model.replace(variables={"params": {**model.params, "logits": head}})


def random_tokens(count=3):
    tokens = np.random.default_rng(0).integers(4, 20, (count, 70), np.int32)
    tokens[0, :30], tokens[0, 30] = 0, 1
    return tokens


@pytest.mark.sample(1)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "pool1"])
@pytest.mark.thorough
def test_the_map_is_the_formula_and_words_have_the_mean_of_what_sees_them(layer):
    model, tokens = random_model(), random_tokens()
    found = word_cam(model, tokens, layer, target=1)
    rest = {"conv1": ("pool1", "conv2"), "pool1": ("conv2",), "conv2": ()}[layer]
    maps = cj.explain.activations(model, tokens, [layer])[layer]

    def logit(maps):
        # The layers above, by hand: windows of 7 after pooling by 5.
        x = maps
        p = model.params
        if "pool1" in rest:
            x = x[:, : x.shape[1] // 5 * 5].reshape(3, -1, 5, 32).max(axis=2)
        if "conv2" in rest:
            windows = jnp.stack([x[:, i : i + x.shape[1] - 6] for i in range(7)], axis=2)
            x = jnp.einsum("ntkc,kcf->ntf", windows, p["conv2"]["kernel"])
            x = jax.nn.relu(x + p["conv2"]["bias"].reshape(1, 1, -1))
        return (x.max(axis=1) @ p["logits"]["kernel"]).sum()

    weights = jax.grad(logit)(maps).mean(axis=1)
    heat = np.maximum(np.einsum("ntc,nc->nt", maps, weights), 0)
    extent, jump = {"conv1": (7, 1), "pool1": (11, 5), "conv2": (41, 5)}[layer]
    placed = np.zeros((3, 70))
    for word in range(70):
        seeing = [t for t in range(heat.shape[1]) if jump * t <= word < jump * t + extent]
        if seeing:
            placed[:, word] = heat[:, seeing].mean(axis=1)
    placed[tokens < 2] = 0
    np.testing.assert_allclose(
        found, placed / placed.max(axis=1, keepdims=True), rtol=1e-3, atol=1e-4
    )


@pytest.mark.thorough
def test_occlusion_is_the_fall_of_the_logit():
    model, tokens = random_model(), random_tokens()
    found = word_occlusion(model, tokens, target=0, size=2)
    whole = np.asarray(model(tokens))[:, 0]
    for row, text, logit in zip(found, tokens, whole, strict=True):
        words = np.flatnonzero(text > 1)
        sums, counts = np.zeros(70), np.zeros(70)
        for first in words[:-1]:
            covered = text.copy()
            covered[first : first + 2] = 2
            fall = float(np.asarray(model(covered[None]))[0, 0]) - logit  # of the negative
            sums[first : first + 2] += fall
            counts[first : first + 2] += 1
        heat = np.maximum(sums, 0) / np.maximum(counts, 1)
        np.testing.assert_allclose(row, heat / heat.max(), rtol=1e-3, atol=1e-4)


def test_a_row_without_words_has_no_heat(trained):
    model, test, _ = trained
    tokens = np.stack([test.inputs[0], np.zeros_like(test.inputs[0])])
    with pytest.warns(EmptyMap, match=r"texts \[1\]"):
        heat = word_occlusion(model, tokens, 1)
    assert heat[1].tolist() == [0] * LENGTH


def test_texts_and_their_numbers_are_the_same_question():
    vocabulary = Vocabulary(tuple("abcdefghijklmnop"))
    model = random_model(vocabulary=vocabulary)
    texts = ["a b c d e f g", "h i j k l m n o p a"]
    tokens = vocabulary.encode_all(texts, 70)
    heat = word_cam(model, texts, target=1)
    np.testing.assert_array_equal(heat, word_cam(model, tokens, target=1))
    assert (heat[tokens < 2] == 0).all()
    assert heat.max(axis=1).tolist() == [1, 1]


def test_an_empty_map_is_said():
    model = random_model()
    params = jax.tree.map(jnp.zeros_like, model.params)
    with pytest.warns(EmptyMap, match=r"word_cam: at 'conv1' nothing speaks for .* \[0, 1, 2\]"):
        heat = word_cam(model.replace(variables={"params": params}), random_tokens(), target=1)
    assert not heat.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: word_cam(random_model(), random_tokens(), "conv3"), "Did you mean 'conv2'"),
        (
            lambda: word_cam(random_model(), random_tokens(), "logits"),
            "layer='logits' has no steps that .* take one of embedding, conv1, pool1, conv2",
        ),
        (
            lambda: word_cam(
                cj.Model.abstract(*build("imdb_gru", input_shape=(70,))), random_tokens()
            ),
            r"imdb_gru has no default layer: give one, e\.g\. layer='embedding'",
        ),
        (lambda: word_cam(random_model(), random_tokens(), target=2), "target=2 is out of range"),
        (lambda: word_cam(random_model(), ["a"]), "imdb_conv1d has no vocabulary"),
        (lambda: word_cam(random_model(), random_tokens() + 10), "the words have numbers in"),
        (lambda: word_cam(cj.create_model("lenet"), ["a"]), "lenet is no classifier of texts"),
        (lambda: word_occlusion(random_model(), random_tokens(), size=71), r"in \[1, 70\], got 71"),
        (lambda: word_occlusion(random_model(), random_tokens(), fill=20), r"fill: .* \[20, 20\]"),
        (lambda: top_ngrams(random_model(), random_tokens()), "its numbers have no words"),
        (
            lambda: cj.explain.grad_cam(random_model(), random_tokens()),
            r"imdb_conv1d takes no images \[N, H, W, C\]",
        ),
    ],
)
def test_what_cannot_be_explained_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_texts_are_drawn(trained, tmp_path):
    model, test, samples = trained
    texts = [samples[0].text, "a film of zzz words"]
    file = plot.draw_words(model, texts, tmp_path, "conv1")
    stored = np.load(tmp_path / "words.npz")
    assert file == tmp_path / "words.png"
    assert file.stat().st_size > 5_000
    np.testing.assert_array_equal(stored["heat"], word_cam(model, texts, "conv1"))
    assert stored["classes"].tolist()[0] == samples[0].label
    by_numbers = plot.draw_words(model, test.inputs[:1], tmp_path, name="covered")
    np.testing.assert_array_equal(
        np.load(by_numbers.with_suffix(".npz"))["heat"], word_occlusion(model, test.inputs[:1])
    )


def test_a_long_text_is_cut_where_it_is_coldest():
    words = [f"w{i}" for i in range(400)]
    heat = np.zeros(400)
    heat[250] = 1
    figure = plot.coloured_words([(words, heat)], ["long"])
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown[0] == "long"
    assert "w250" in shown
    assert shown.count("...") == 2
    assert len(shown) == 150 + 3
