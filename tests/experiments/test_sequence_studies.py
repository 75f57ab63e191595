"""Studies of sequences: equal tuning effort, convolutions beside recurrent nets, few examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.recipes import Experiment, Options
from cnnjax.runs.results.claims import read_claims
from experiments import _tuning, conv_or_recurrent, few_examples, time_series

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)


def splits() -> cj.data.Splits:
    """Two classes that differ in their brightness."""
    labels = np.arange(48) % 2
    images = (RNG.integers(0, 100, (48, 4, 4, 1)) + 100 * labels[:, None, None, None]).astype("u1")
    data = cj.data.Dataset(images, labels, ("dark", "bright"))
    return cj.data.Splits(data.subset(range(32)), data.subset(range(32, 48)), None)


def tiny(arm: str, settings: Mapping[str, Any], options: Options) -> Experiment:
    training = cj.TrainingConfig(epochs=4, batch_size=8, monitor="loss", **settings)
    return Experiment(
        name=f"tiny/{arm}", description="tiny", model="mlp", arguments={"units": (int(arm),)},
        training=training,
    ).with_options(options)  # fmt: skip


def test_a_search_chooses_by_validation_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"0": {"learning_rate": 1e-9}, "1": {"learning_rate": 1e-2}}
    data, options = splits(), Options(seeds=3)
    best = _tuning.search(tmp_path, ("8",), grid, tiny, options, data)
    assert best == {"8": grid["1"]}
    table = (tmp_path / "search.md").read_text().splitlines()
    assert [cell.strip() for cell in table[0].split("|")[1:-1]] == [
        "validation loss", "0", "1", "chosen",
    ]  # fmt: skip
    found = json.loads((tmp_path / "search.json").read_text())
    assert len(found) == 2
    one = tiny("8", grid["1"], Options(seed=_tuning.SEED))
    model = cj.create_model(
        "mlp", input_shape=(4, 4, 1), num_classes=2, units=(8,), seed=_tuning.SEED
    )
    run = cj.fit(model, data, one.training, verbose=False)
    assert f"{run.metrics['val_loss']:.4f}" in table[-1]

    monkeypatch.setattr(_tuning, "_validated", lambda *_: 1e9)
    more = {**grid, "2": {"learning_rate": 1e-3}}
    resumed = Options(seeds=3, resume=True)
    assert _tuning.search(tmp_path, ("8",), more, tiny, resumed, data) == best
    assert list(json.loads((tmp_path / "search.json").read_text()).values()).count(1e9) == 1


def test_time_to_equal_accuracy_is_until_what_both_reach() -> None:
    def run(accuracies: list[float], seconds: list[float]) -> Any:
        history = {"val_accuracy": np.array(accuracies), "seconds": np.array(seconds)}
        return SimpleNamespace(history=history)

    fast, good = run([0.6, 0.8, 0.7], [2, 1, 1]), run([0.5, 0.7, 0.9], [10, 10, 10])
    assert conv_or_recurrent.seconds_to_equal(fast, good) == (3.0, 30.0)
    assert conv_or_recurrent.seconds_to_equal(good, fast) == (30.0, 3.0)


@pytest.mark.slow
def test_convolutions_and_recurrent_nets_are_searched_confirmed_and_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words_dropped = dict(list(conv_or_recurrent.GRID.items())[-1:])
    monkeypatch.setattr(conv_or_recurrent, "GRID", words_dropped)
    options = conv_or_recurrent.ComparisonOptions(
        data="templates", length=48, train_examples=128, epochs=1, out=str(tmp_path)
    )
    runs = conv_or_recurrent.main(options)
    assert list(runs) == ["conv1d", "gru", "lstm"]
    record = json.loads((tmp_path / "gru" / "run.json").read_text())
    assert record["experiment"] == "conv_or_recurrent/128x48/gru"
    assert record["data"]["train"]["examples"] == 128
    claims = read_claims(tmp_path / "claims.json")[0]
    assert claims[0].second == record["experiment"]  # type: ignore[union-attr]
    assert conv_or_recurrent.CLAIMS[0].second == "conv_or_recurrent/gru"
    assert [claim.metric for claim in claims] == [
        "test_accuracy", "seconds", "test_accuracy", "seconds",
        "seconds of training", "seconds of training",
    ]  # fmt: skip
    assert (tmp_path / "conv_or_recurrent.png").is_file()


# Few examples


@pytest.mark.parametrize("task", few_examples.TASKS)
def test_every_way_and_size_takes_as_many_steps(task: Any) -> None:
    made = few_examples.TASKS[task]
    for way in made.ways:
        for size in made.sizes:
            one = few_examples.experiment(way, size, few_examples.FewOptions(task=task, data="x"))
            steps = one.training.epochs * -(-size // one.training.batch_size)
            assert made.steps <= steps < 1.2 * made.steps
            assert (one.train_examples, one.training.monitor) == (size, None)
            assert (one.training.augment is None) == (way in ("plain", "regularised"))
    assert len(few_examples.CLAIMS[task]) == (len(made.ways) - 1) * len(made.sizes)


def test_of_errors_the_smaller_is_claimed_to_be_better() -> None:
    words = few_examples.claims_of("reviews", (500,))[0]
    assert (words.first, words.second, words.metric) == (
        "few_examples/reviews/words_dropped/500", "few_examples/reviews/plain/500", "test_accuracy",
    )  # fmt: skip
    noise = few_examples.claims_of("series", (100,))[0]
    assert (noise.first, noise.second, noise.metric) == (
        "few_examples/series/plain/100", "few_examples/series/jitter/100", "test_absolute_error",
    )  # fmt: skip


def test_fewer_windows_are_the_newest_and_tested_on_the_same() -> None:
    whole = time_series.load(time_series.SeriesOptions(data="google_volume"))
    found = few_examples.newest_windows(100)
    series = {part: getattr(found, part) for part in ("train", "test")}
    assert (len(series["train"]), len(series["test"])) == (100, len(whole.splits.test))  # type: ignore[arg-type]
    newest = whole.past("train")[-100:]
    scale = newest[:, 0].std() / np.asarray(series["train"].inputs)[:, 0, 0].std()
    shift = newest[0, 0] - scale * float(series["train"].inputs[0, 0, 0])
    for part in ("train", "test"):
        expected = whole.past(part)[-len(series[part]) :]
        scaled = np.asarray(series[part].inputs)[..., 0]
        np.testing.assert_allclose(scale * scaled + shift, expected, atol=1e-3)
    with pytest.raises(ValueError, match="sizes must be between 1 and 669 for the series, got 670"):
        few_examples.newest_windows(670)


def test_photos_have_to_be_given() -> None:
    with pytest.raises(ValueError, match=r"data must be given for pets, e\.g\. --data FOLDER"):
        few_examples.main(few_examples.FewOptions(task="pets"))


@pytest.mark.slow
def test_ways_are_trained_on_few_examples_drawn_and_claimed(tmp_path: Path) -> None:
    options = few_examples.FewOptions(task="series", sizes=(20,), steps=2, out=str(tmp_path))
    runs = few_examples.main(options)
    assert list(runs) == ["plain/20", "jitter/20", "warped/20"]
    table = (tmp_path / "few_examples.md").read_text()
    for group in runs.values():
        assert f" {group[0].metrics['test_absolute_error']:.4f} " in table
    assert (tmp_path / "few_examples.png").is_file()
    claims = read_claims(tmp_path / "claims.json")[0]
    assert [claim.first.split("/")[-1] for claim in claims] == ["20", "20"]


def test_enough_is_a_claim_where_its_size_is_trained() -> None:
    values = {"plain": [[0.9, 0.91]], "augmented": [[0.96, 0.97]]}
    (claim,) = few_examples.enough("digits", (500,), values)
    assert (claim.first, claim.second) == ((0.96, 0.97), (0.95, 0.95))
    assert few_examples.enough("digits", (200,), values) == []
    assert few_examples.enough("reviews", (500,), values) == []
