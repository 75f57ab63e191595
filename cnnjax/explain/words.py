"""Which words of a text speak for a class: class activation maps in one dimension, occlusion."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.data.vocabulary import START, UNKNOWN
from cnnjax.explain.activations import activation_shapes
from cnnjax.explain.cam import EmptyMap
from cnnjax.explain.inputs import check_layer
from cnnjax.explain.layer_gradients import finite_examples, maps_and_gradients
from cnnjax.explain.scores import Question
from cnnjax.explain.targets import Target, asked
from cnnjax.models import Model, ReceptiveField, receptive_fields
from cnnjax.models.modules import Static, Variables
from cnnjax.models.predict import encode_texts

_BATCH = 64

Texts = Sequence[str] | np.ndarray | Array


class Ngram(NamedTuple):
    """Words beside each other that a layer sees at once.

    Args:
        text: the words; those that the vocabulary has not are "<unknown>".
        heat: in (0, 1], 1 for the hottest of its text.
        first, last: of its numbers in the row of the text, the last one excluded.
    """

    text: str
    heat: float
    first: int
    last: int


def word_cam(
    model: Model, texts: Texts, layer: str | None = None, target: Target = None
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of texts.

    `heat_t = relu(sum_c w_c A_tc)` with the layer's output A and `w_c = mean_t d logit / d A_tc`.
    A word's heat is the mean over the steps that depend on it, which the layer's receptive field
    tells.

    Args:
        model: of texts, with a head; nothing in it is changed.
        texts: N texts, where the model has a vocabulary, or int32 [N, T], as `model(...)` takes.
        layer: a name of `model.layer_names`, whose output is [N, T', C]; None takes
            `model.spec.cam_layer`.
        target: as in `grad_cam`, one per text.

    Returns:
        float32 [N, T] in [0, 1], 1 at the hottest word of each text; zero at padding, and all over
        where nothing speaks for the class, which an `EmptyMap` warning reports.

    Raises:
        ValueError: for a layer that does not exist (offers the nearest), has no steps or depends on
            all words at once; a target out of range or unknown; a model of something else.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("imdb_conv1d", input_shape=(64,), vocabulary_size=9)
    >>> numbers = np.random.default_rng(0).integers(4, 9, (2, 64), np.int32)
    >>> word_cam(model, numbers, layer="conv1", target=1).shape
    (2, 64)
    """
    tokens = checked_tokens(model, texts)
    layer, field = _layer_of_steps(model, layer)
    heat = _heat_of_steps(model, tokens, layer, target)
    seen = np.zeros((heat.shape[1], tokens.shape[1]), np.float32)
    for step, row in enumerate(seen):
        row[slice(*_words_of_step(field, step, len(row)))] = 1
    placed = heat @ seen / np.maximum(seen.sum(axis=0), 1)
    return _normalised(placed, tokens, f"word_cam: at {layer!r}")


def word_occlusion(
    model: Model, texts: Texts, target: Target = None, size: int = 1, fill: int = UNKNOWN
) -> np.ndarray:
    """How much the class logit falls when words are covered (Zeiler & Fergus 2014, of images).

    A word's heat is the mean fall over the windows of words that cover it; rises count as zero.
    Needs no gradient and no layer, but one forward pass per word.

    Args:
        model, texts, target: as in `word_cam`; a function is given the outputs of each text's
            covered copies.
        size: words covered at once, >= 1.
        fill: the number that stands in their place; by default that of an unknown word.

    Returns:
        float32 [N, T] in [0, 1], as `word_cam`.

    Raises:
        ValueError: for texts or targets that `word_cam` refuses, or a size or fill out of range.
    """
    tokens = checked_tokens(model, texts)
    length = tokens.shape[1]
    if not 1 <= size <= length:
        raise ValueError(f"size must lie in [1, {length}], got {size}")
    model.spec.check_words(fill, fill, "fill")
    whole = np.asarray(model(tokens))
    question = _one_question(model, target, len(tokens)).settled(jnp.asarray(whole))
    heat = np.zeros(tokens.shape, np.float32)
    scores = np.asarray(question.scores(jnp.asarray(whole)), np.float32)
    for i, (row, text) in enumerate(zip(heat, tokens, strict=True)):
        words = np.flatnonzero(text > START)
        if not len(words):
            continue
        firsts = words[: max(len(words) - size + 1, 1)]
        masks = np.zeros((len(firsts), length), bool)
        for mask, first in zip(masks, firsts, strict=True):
            mask[first : first + size] = True
        covered = _logits(model, np.where(masks, np.int32(fill), text))
        falls = scores[i] - np.asarray(question.of(i, len(covered)).scores(jnp.asarray(covered)))
        row[:] = np.maximum(falls @ masks, 0) / np.maximum(masks.sum(axis=0), 1)
    return _normalised(heat, tokens, "word_occlusion: whatever word is covered,")


def top_ngrams(
    model: Model,
    texts: Texts,
    layer: str | None = None,
    target: Target = None,
    count: int = 5,
) -> list[list[Ngram]]:
    """The n-grams of each text that speak most for a class, at a layer of convolutions.

    Args:
        model, texts, layer, target: as in `word_cam`. Of `imdb_conv1d` the layer "conv1" has
            n-grams of 7 words, "conv2" of 41.
        count: at most so many per text, >= 1; no two of them overlap.

    Returns:
        Per text, the hottest first; fewer where less speaks for the class.

    Raises:
        ValueError: as `word_cam`; for a model without a vocabulary.
    """
    tokens = checked_tokens(model, texts)
    vocabulary = model.spec.vocabulary
    if vocabulary is None:
        raise ValueError(f"{model.spec.name} has no vocabulary, so its numbers have no words")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    layer, field = _layer_of_steps(model, layer)
    heat = _heat_of_steps(model, tokens, layer, target)
    found = []
    for row, text in zip(heat, tokens, strict=True):
        ngrams: list[Ngram] = []
        for step in np.argsort(-row, kind="stable"):
            if row[step] <= 0 or len(ngrams) == count:
                break
            first, last = _words_of_step(field, int(step), len(text))
            words = vocabulary.decode(text[first:last])
            apart = all(last <= other.first or first >= other.last for other in ngrams)
            if words and apart:
                ngrams.append(Ngram(words, float(row[step]), first, last))
        top = ngrams[0].heat if ngrams else 1.0
        found.append([n._replace(heat=n.heat / top) for n in ngrams])
    return found


def checked_tokens(model: Model, texts: Texts) -> np.ndarray:
    """Texts or numbers of words as a model takes them, int32 [N, T], or one clear sentence.

    Raises:
        ValueError: for a model that is no classifier of texts, or what `predict` refuses.
    """
    spec = model.spec
    if not spec.inputs.tokens or spec.positions or not spec.num_classes:
        raise ValueError(f"{spec.name} is no classifier of texts")
    if not isinstance(texts, np.ndarray | Array):
        return encode_texts(spec, texts)
    tokens = np.asarray(model.checked_inputs(texts), np.int32)
    if tokens.size:
        spec.check_words(int(tokens.min()), int(tokens.max()), "texts")
    return tokens


def _layer_of_steps(model: Model, layer: str | None) -> tuple[str, ReceptiveField]:
    """The layer to take, and what its steps depend on."""
    shapes = activation_shapes(model)
    fields = receptive_fields(model)
    fitting = [
        name for name, shape in shapes.items()
        if len(shape) == 3 and (field := fields.get(name)) is not None and not field.all
    ]  # fmt: skip
    name = layer if layer is not None else model.spec.cam_layer
    if not name:
        if not fitting:
            raise ValueError(
                f"{model.spec.name} has no layer whose steps depend on a few words each"
            )
        raise ValueError(
            f"{model.spec.name} has no default layer: give one, e.g. layer={fitting[-1]!r}"
        )
    check_layer(model, name, fitting)
    field = fields.get(name)
    if name not in fitting or field is None:
        raise ValueError(
            f"layer={name!r} has no steps that depend on a few words each: take one of "
            f"{', '.join(fitting)}"
        )
    return name, field


def _words_of_step(field: ReceptiveField, step: int, length: int) -> tuple[int, int]:
    """(first, last) of the words that a step of a layer depends on, the last one excluded."""
    first, _, last, _ = field.box((step, 0))
    return max(first, 0), max(min(last, length), 0)


def _one_question(model: Model, target: Target, count: int) -> Question:
    """What is asked of each text, which must be one thing: words have one row of heat."""
    question = asked(model, target, count)
    if question.several:
        raise ValueError("target asks several classes of each text: ask one after the other")
    return question


def _heat_of_steps(model: Model, tokens: np.ndarray, layer: str, target: Target) -> np.ndarray:
    """The heat of every step of a layer, [N, T']."""
    question = _one_question(model, target, len(tokens))
    heat, finite = _cam(model.static, model.spec.name, layer, model.variables, tokens, question)
    if not np.all(finite):
        numbers = np.flatnonzero(~np.asarray(finite)).tolist()
        raise ValueError(f"the logits of {model.spec.name} for texts {numbers} are not finite")
    return np.asarray(heat, np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _cam(
    static: Static, root: str, layer: str, variables: Variables, tokens: Array, question: Question
) -> tuple[Array, Array]:
    maps, gradients, outputs = maps_and_gradients(static, root, layer, variables, tokens, question)
    weights = jnp.mean(gradients, axis=1)
    heat = jax.nn.relu(jnp.einsum("ntc,nc->nt", maps, weights))
    return heat, finite_examples(outputs)


def _normalised(heat: np.ndarray, tokens: np.ndarray, where: str) -> np.ndarray:
    """Zero where there is no word, else divided by the text's maximum."""
    heat = np.where(tokens > START, heat, 0)
    top = heat.max(axis=1, initial=0)
    if not top.all():
        warnings.warn(
            f"{where} nothing speaks for the class of texts {np.flatnonzero(top == 0).tolist()}",
            EmptyMap,
            stacklevel=3,
        )
    return (heat / np.where(top > 0, top, 1)[:, None]).astype(np.float32)


def _logits(model: Model, tokens: np.ndarray) -> np.ndarray:
    """float32 [M, K], in batches of one compiled shape."""
    rows = []
    for start in range(0, len(tokens), _BATCH):
        chunk = tokens[start : start + _BATCH]
        padded = np.zeros((_BATCH, tokens.shape[1]), np.int32)
        padded[: len(chunk)] = chunk
        rows.append(np.asarray(model(padded), np.float32)[: len(chunk)])
    return np.concatenate(rows)
