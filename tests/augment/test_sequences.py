"""Augmentation of texts and series against plain formulas, and in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import cnnjax as cj
from cnnjax.augment import Augment, Chain, Jitter, WindowWarp, WordDropout, for_batch, warp
from cnnjax.core import rng
from cnnjax.training import TrainState, make_train_step

KEY = rng.stream(0, "augment")

TOKENS = np.random.default_rng(0).integers(0, 50, (64, 400)).astype(np.int32)
SERIES = np.random.default_rng(1).normal(size=(20, 60, 2)).astype(np.float32)


def augmented(augment: Callable, examples: np.ndarray, epoch: int = 0, first: int = 0) -> Any:
    index = jnp.arange(first, first + len(examples))
    return np.asarray(for_batch(augment, KEY, jnp.int32(epoch), index, jnp.asarray(examples)))


def test_dropped_words_are_unknown_and_what_is_no_word_stays() -> None:
    found = augmented(WordDropout(0.3), TOKENS)
    assert found.dtype == np.int32
    words, dropped = TOKENS >= 4, found != TOKENS
    assert set(found[dropped]) == {2}
    assert not dropped[~words].any()
    count = stats.binomtest(int(dropped[words].sum()), int(words.sum()), 0.3)
    assert count.pvalue > 1e-3
    assert (augmented(WordDropout(0.0), TOKENS) == TOKENS).all()


def test_other_numbers_may_stand_for_words_and_for_the_unknown() -> None:
    found = augmented(WordDropout(0.9, replacement=0, reserved=0), TOKENS)
    assert set(found[found != TOKENS]) == {0}
    assert (found != TOKENS).mean() == pytest.approx(0.9 * (TOKENS != 0).mean(), abs=0.02)


def test_a_rate_of_zero_drops_no_word() -> None:
    for none in (0, 0.0, np.float32(0)):
        assert (augmented(WordDropout(none), TOKENS[:2]) == TOKENS[:2]).all()


def test_jitter_is_normal_noise_of_that_deviation() -> None:
    noise = (augmented(Jitter(0.25), SERIES) - SERIES).ravel()
    assert stats.kstest(noise, stats.norm(0, 0.25).cdf).pvalue > 1e-3
    assert (augmented(Jitter(0.0), SERIES) == SERIES).all()


def warped_by_hand(
    series: np.ndarray, start: float, width: float, factor: float, parts: int = 1_000
) -> np.ndarray:
    """Small steps of time, each lasting `factor` inside of the stretch; read off evenly."""
    longest = len(series) - 1
    fine = np.linspace(0, longest, longest * parts + 1)
    middle = (fine[1:] + fine[:-1]) / 2
    inside = (middle > start) & (middle < start + width)
    clock = np.concatenate([[0.0], np.cumsum(np.where(inside, factor, 1.0) / parts)])
    place = np.interp(np.linspace(0, clock[-1], len(series)), clock, fine)
    return np.stack([np.interp(place, np.arange(len(series)), c) for c in series.T], axis=1)


@pytest.mark.parametrize(
    ("start", "width", "factor"),
    [(0, 7, 2), (20.5, 11, 0.5), (3.25, 30, 1.7), (49, 10, 0.1), (0, 59, 3), (5, 9, 1), (5, 0, 4)],
)
def test_a_stretch_lasts_longer_by_its_factor(start: float, width: float, factor: float) -> None:
    for series in SERIES[:3]:
        found = np.asarray(warp(jnp.asarray(series), start, width, factor))
        expected = warped_by_hand(series.astype(np.float64), start, width, factor)
        np.testing.assert_allclose(found, expected, atol=0.01)
        np.testing.assert_allclose(found[[0, -1]], series[[0, -1]], atol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e30])
def test_the_ends_of_a_series_stay_whatever_the_factor_is(factor: float) -> None:
    series = jnp.asarray(SERIES[0])
    for start in (0.0, 20.5, 49.0):
        found = np.asarray(warp(series, start, 10.0, factor))
        np.testing.assert_array_equal(found[[0, -1]], SERIES[0][[0, -1]])
    np.testing.assert_array_equal(warp(series[:1], 0.0, 0.0, factor), series[:1])


def test_settings_in_a_list_are_those_in_a_tuple() -> None:
    assert WindowWarp(0.2, [0.5, 2.0]) == WindowWarp(0.2, (0.5, 2.0))  # type: ignore[arg-type]
    assert WindowWarp(0.2, np.array([2.0])) == WindowWarp(0.2, (2.0,))  # type: ignore[arg-type]
    both = [WindowWarp(0.2), Jitter(0.1)]
    assert hash(Chain(both)) == hash(Chain(tuple(both)))  # type: ignore[arg-type]


@pytest.mark.thorough
def test_every_series_is_warped_at_a_place_and_by_a_factor_of_its_own() -> None:
    line = np.broadcast_to(np.arange(101, dtype=np.float32)[:, None], (600, 101, 1))
    slopes = np.diff(augmented(WindowWarp(0.2), line)[..., 0], axis=1)
    # Of the whole, 101 - 1 steps, the clock runs through 100 + (factor - 1) 20.
    slow, fast = 120 / 100, 90 / 100
    is_slow = np.isclose(slopes.max(axis=1), slow, atol=1e-3)
    assert stats.binomtest(int(is_slow.sum()), 600, 0.5).pvalue > 1e-3
    np.testing.assert_allclose(slopes[is_slow].min(axis=1), slow / 2, atol=1e-3)
    np.testing.assert_allclose(slopes[~is_slow].max(axis=1), fast * 2, atol=1e-3)
    np.testing.assert_allclose(slopes[~is_slow].min(axis=1), fast, atol=1e-3)
    starts = (np.argmax(slopes[is_slow] < 0.99 * slow, axis=1) + 0.5) * slow
    assert stats.kstest(starts, stats.uniform(0, 80).cdf).pvalue > 1e-3


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "augment", [WordDropout(0.5), Jitter(0.5), WindowWarp(0.3), Chain((WindowWarp(), Jitter(0.1)))]
)
def test_an_example_is_changed_by_its_index_and_epoch_alone(augment: Callable) -> None:
    examples = TOKENS[:20] if isinstance(augment, WordDropout) else SERIES
    whole = augmented(augment, examples)
    np.testing.assert_allclose(whole[7:9], augmented(augment, examples[7:9], first=7), atol=1e-6)
    assert (whole != augmented(augment, examples, epoch=1)).any()
    same = np.broadcast_to(examples[:1], examples.shape)
    assert len(np.unique(augmented(augment, same).reshape(20, -1), axis=0)) > 15
    jitted = jax.jit(lambda x: augment(KEY, x))(examples[0])
    assert (jitted.shape, jitted.dtype) == (examples[0].shape, examples[0].dtype)


def test_a_chain_gives_every_part_a_key_of_its_own() -> None:
    series = jnp.asarray(SERIES[0])
    noise = Chain((Jitter(1.0), Jitter(1.0)))(KEY, series) - series
    parts = [Jitter(1.0)(rng.at(KEY, i), jnp.zeros_like(series)) for i in (0, 1)]
    np.testing.assert_allclose(noise, parts[0] + parts[1], atol=1e-5)
    assert not np.allclose(parts[0], parts[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordDropout(1.0), r"rate must be a number in \[0, 1\), got 1.0"),
        (lambda: WordDropout(0.5, replacement=-1), "replacement must be a whole number >= 0"),
        (lambda: WordDropout(0.5, reserved=1.5), "reserved must be a whole number >= 0, got 1.5"),
        (lambda: Jitter(-0.1), "sigma must be a number >= 0, got -0.1"),
        (lambda: WindowWarp(0.0), r"share must be a number in \(0, 1\], got 0.0"),
        (lambda: WindowWarp(0.5, (0.0,)), "factors must be numbers > 0, at least one"),
        (lambda: WindowWarp(0.5, ()), "factors must be numbers > 0, at least one"),
        (lambda: Chain(()), r"parts must be functions \(key, example\) -> example, got \(\)"),
        (lambda: WordDropout(0.5)(KEY, SERIES[0]), "WordDropout needs numbers of words"),
        (lambda: Jitter(0.5)(KEY, TOKENS[0]), r"Jitter needs a series, floating \[T, C\], got int"),
        (lambda: WindowWarp()(KEY, SERIES), r"WindowWarp needs a series.*\[20, 60, 2\]"),
    ],
)
def test_what_cannot_be_is_named(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def text_model() -> cj.Model:
    return cj.create_model(
        "imdb_conv1d", input_shape=(50,), num_classes=1, vocabulary_size=50, embedding_size=4
    )


@pytest.mark.thorough
def test_a_training_step_sees_the_text_with_words_dropped() -> None:
    model, tokens = text_model(), jnp.asarray(TOKENS[:8, :50])
    optimizer = cj.training.make_optimizer(cj.TrainingConfig(optimizer="sgd"), 1)
    state = TrainState.create(model, optimizer, seed=0)
    batch = {
        "labels": jnp.arange(8) % 2, "index": jnp.arange(8, dtype=jnp.int32), "epoch": jnp.int32(3)
    }  # fmt: skip

    def loss(images: Any, augment: Callable | None) -> float:
        step = make_train_step(model, None, optimizer, augment=augment)
        return float(jax.jit(step)(state, {**batch, "inputs": images})[1]["loss"])

    dropout = WordDropout(0.4)
    key = rng.named(jax.random.wrap_key_data(state.key), "augment")
    seen = for_batch(dropout, key, batch["epoch"], batch["index"], tokens)
    assert (seen != tokens).any()
    assert loss(tokens, dropout) == pytest.approx(loss(seen, None), rel=1e-6)


@pytest.mark.parametrize(
    ("augment", "examples", "message"),
    [
        (lambda key, x: x[:4], SERIES, r"float32 \[60, 2\], got float32 \[4, 2\]"),
        (lambda key, x: None, SERIES, r"float32 \[60, 2\], got NoneType"),
        (lambda key, x: x * 1.5, TOKENS, r"int32 \[400\], got float32 \[400\]"),
    ],
    ids=["shape", "nothing", "no_words"],
)
def test_a_function_that_makes_something_else_is_named(
    augment: Callable, examples: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match="^augment must return an example as .*, " + message):
        augmented(augment, examples)


@pytest.mark.thorough
def test_a_run_with_another_rate_is_no_resumption(tmp_path: Any) -> None:
    data = cj.data.Dataset(TOKENS[:32, :50], np.arange(32) % 2)

    def run(rate: float, resume: bool) -> cj.Run:
        config = cj.TrainingConfig(
            epochs=1 + resume, batch_size=16, augment=WordDropout(rate), resume=resume
        )
        return cj.fit(text_model(), data, config, directory=tmp_path / "a", verbose=False)

    run(0.3, resume=False)
    with pytest.raises(cj.runs.RunError, match=r"augment.*rate"):
        run(0.4, resume=True)


def test_an_augment_of_images_is_refused_and_says_what_to_take() -> None:
    data = cj.data.Dataset(TOKENS[:8, :50], np.arange(8) % 2)
    config = cj.TrainingConfig(epochs=1, batch_size=8, augment=Augment(rotation=3))
    with pytest.raises(ValueError, match=r"takes \[50\]: give a function \(key, example\) ->"):
        cj.fit(text_model(), data, config, verbose=False)
