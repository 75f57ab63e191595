"""The studies of pretrained bases: what they train, their tables, figures and claims."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.recipes import Claim, Experiment, Measured
from cnnjax.runs.results.claims import read_claims
from experiments import (
    _arms,
    _studies,
    extraction_cost,
    fine_tuning_gain,
    fine_tuning_ways,
    how_much_to_free,
)

pytestmark = pytest.mark.thorough

TINY: dict[str, Any] = {"weights": "random", "image_size": 32}
STUDIES = (extraction_cost, fine_tuning_gain, fine_tuning_ways, how_much_to_free)


def photos(count: int = 40) -> cj.data.Splits:
    """Noise in two classes, divided in three."""
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 2
    data = cj.data.from_arrays(images, labels, label_names=("cat", "dog"))
    return cj.data.Splits(data).with_test(0.2).with_validation(0.2)


@functools.cache
def base() -> cj.Model:
    """A small one for all tests."""
    shape = (32, 32, 3)
    return cj.create_model("mobilenet", alpha=0.25, include_top=False, input_shape=shape)


class Trainer:
    """In the place of `run_experiment`: keeps what is asked for, and trains nothing."""

    def __init__(self) -> None:
        self.asked: dict[str, list[tuple[Experiment, cj.Model, Path]]] = {}

    def __call__(self, task: Experiment, out: Any, **more: Any) -> cj.Run:
        model = more.get("model") or cj.create_model("lenet")
        runs = self.asked.setdefault(task.name, [])
        runs.append((task, model, Path(out)))
        accuracy = 0.5 + (len(self.asked) % 7) / 20 + task.training.seed / 100
        history = {
            "accuracy": np.array([0.5, 0.9]), "val_accuracy": np.array([0.5, accuracy]),
            "seconds": np.array([4.0, 1.0]),
        }  # fmt: skip
        metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy - 0.1}
        directory = Path(out)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "run.json").write_text(json.dumps(dict(task.facts)))
        return cj.Run(model, history, metrics, directory, "", 2, 5.0)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made, data = Trainer(), photos()
    monkeypatch.setattr(_arms, "run_experiment", made)
    monkeypatch.setattr(extraction_cost, "run_experiment", made)
    for module in STUDIES:
        monkeypatch.setattr(module, "load_data", lambda _: data)
        monkeypatch.setattr(module, "build_base", lambda *_: base())
    return made


def table(file: Path) -> list[list[str]]:
    lines = file.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def assert_drawn(file: Path) -> None:
    assert np.asarray(Image.open(file).convert("L")).std() > 5


def assert_claims(study: Any, trainer: Trainer, folder: Path) -> list[Claim | Measured]:
    """All claims of a study were written, and are on arms that it trained."""
    claims, _ = read_claims(folder / "claims.json")
    assert claims[: len(study.CLAIMS)] == list(study.CLAIMS)
    assert {arm for c in study.CLAIMS for arm in (c.first, c.second)} <= set(trainer.asked)
    return claims[len(study.CLAIMS) :]


def test_all_arms_of_a_seed_start_alike_and_differ_in_what_is_free(
    trainer: Trainer, tmp_path: Path
) -> None:
    options = how_much_to_free.FreeingOptions(**TINY, out=str(tmp_path))
    runs = how_much_to_free.main(options)
    assert len(runs) == 2 * 2 * 4
    for count, epochs in ((200, 20), (2000, 5)):
        study = f"how_much_to_free/{count}"
        ((head, new, _),) = trainer.asked[f"{study}/head"]
        assert (head.training.epochs, head.train_examples) == (epochs, count)
        assert head.training.frozen == cj.transfer.base_layers(new)
        for kind, start, length in (("trained", new, epochs), ("random", new, 2 * epochs)):
            arms = [trainer.asked[f"{study}/{kind}/{level}"][0] for level in options.free]
            assert {arm[0].training.epochs for arm in arms} == {length}
            assert {arm[0].training.learning_rate for arm in arms} == {1e-4}
            assert all(arm[1] is start for arm in arms)
            assert [len(arm[0].training.frozen) for arm in arms] == [54, 50, 38, 27]
    head, _, *rows = table(tmp_path / "how_much_to_free.md")
    assert head[:4] == ["photos", "head", "free from", "free layers"]
    assert [row[:4] for row in rows[:4]] == [
        ["200", "trained", "none", "0"],
        ["200", "trained", "conv_dw_12", "4"],
        ["200", "trained", "conv_dw_6", "16"],
        ["200", "trained", "all", "27"],
    ]
    (one,) = runs["200/trained/all"]
    assert rows[3][6] == f"{90 - 100 * one.metrics['val_accuracy']:.2f}"
    assert_drawn(tmp_path / "how_much_to_free.png")
    assert assert_claims(how_much_to_free, trainer, tmp_path) == []


def test_all_with_normalisation_freezes_nothing(trainer: Trainer, tmp_path: Path) -> None:
    options = how_much_to_free.FreeingOptions(**TINY, photos=(200,), out=str(tmp_path))
    how_much_to_free.run(replace(options, train_norm=True, free=("all",)))
    task = trainer.asked["how_much_to_free/200/trained/all"][0][0]
    assert task.training.frozen == ()
    assert task.changed == {"image_size": 32, "train_norm": True, "weights": "random"}
    with pytest.raises(ValueError, match="photos and free must hold at least one each, got"):
        how_much_to_free.main(replace(options, free=()))


def test_claims_on_arms_that_were_not_trained_are_left_out(tmp_path: Path) -> None:
    first, second = Claim("One.", "a", "b", "loss"), Claim("Two.", "a", "c", "loss")
    _arms.write_known(tmp_path / "none", (first, second), {"a"})
    assert not (tmp_path / "none").exists()
    _arms.write_known(tmp_path, (first, second), ["a", "c"])
    assert read_claims(tmp_path / "claims.json")[0] == [second]


def test_every_case_of_the_gain_has_its_images_and_three_ways(
    trainer: Trainer, tmp_path: Path
) -> None:
    options = fine_tuning_gain.GainOptions(
        **{**TINY, "image_size": 64}, data="pets", out=str(tmp_path), seeds=2
    )
    runs = fine_tuning_gain.main(options)
    assert list(runs) == [f"{c}/{w}" for c in fine_tuning_gain.CASES for w in fine_tuning_gain.WAYS]
    tasks = {name: asked[0][0] for name, asked in trainer.asked.items()}
    one = {case: tasks[f"fine_tuning_gain/{case}/free"] for case in fine_tuning_gain.CASES}
    assert {case: task.data for case, task in one.items()} == {
        "photos": "pets", "few": "pets", "small": "pets", "other": "cifar10",
    }  # fmt: skip
    assert {c: t.images["image_size"][0] for c, t in one.items()} == {
        "photos": 64, "few": 64, "small": 48, "other": 32,
    }  # fmt: skip
    assert [task.train_examples for task in one.values()] == [2000, 200, 2000, 2000]
    ways = [tasks[f"fine_tuning_gain/few/{way}"].training for way in fine_tuning_gain.WAYS]
    assert [way.epochs for way in ways] == [20] * 3
    assert len({replace(way, frozen=()) for way in ways}) == 1
    frozen, free, norm = (set(way.frozen) for way in ways)
    assert frozen > free > norm
    assert {name for name in free - norm if not name.endswith("_bn")} == set()
    rows = table(tmp_path / "fine_tuning_gain.md")[2:]
    outs = {out.parts[-4:-2] for *_, out in trainer.asked["fine_tuning_gain/few/free"]}
    assert {parts[1] for parts in outs} == {"seed0", "seed1"}
    gain = fine_tuning_gain.gains(runs, "few", "free")
    assert rows[1][3].startswith(f"{gain.mean():.2f} ± ")
    assert_drawn(tmp_path / "fine_tuning_gain.png")
    assert assert_claims(fine_tuning_gain, trainer, tmp_path) == []
    with pytest.raises(ValueError, match="cases must be of photos, few, small, other, got 'many'"):
        fine_tuning_gain.main(replace(options, cases=("many",)))


def test_the_cost_of_features_is_counted_with_their_extraction(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(_: cj.Model, data: cj.data.Splits, *__: Any, **___: Any) -> cj.data.Splits:
        time.sleep(0.02)
        return data

    gaps = iter([[0.5], [0.25]])
    monkeypatch.setattr(_studies, "plain_gaps", lambda *_: next(gaps))
    monkeypatch.setattr(cj.transfer, "extract_features", extract)
    options = extraction_cost.CostOptions(**TINY, out=str(tmp_path))
    runs = extraction_cost.main(options)
    (features,) = runs["features"]
    spent = extraction_cost.extraction(features)
    assert spent > 0
    np.testing.assert_allclose(extraction_cost.seconds(features), [4 + spent, 5 + spent])
    np.testing.assert_allclose(extraction_cost.seconds(runs["altered"][0]), [4, 5])
    tasks = {name.partition("/")[2]: asked[0] for name, asked in trainer.asked.items()}
    plain, altered = (tasks[way][0].training for way in ("end_to_end", "altered"))
    assert replace(altered, augment=None) == plain
    assert plain.frozen == cj.transfer.base_layers(tasks["altered"][1])
    assert replace(plain, frozen=()) == tasks["features"][0].training
    rows = table(tmp_path / "extraction_cost.md")[2:]
    assert [row[1] for row in rows] == [f"{spent:.1f}", "0.0", "0.0"]
    assert [row[2:4] for row in rows] == [["4.0", "1.0"]] * 3
    assert_drawn(tmp_path / "extraction_cost.png")
    measured: Any = assert_claims(extraction_cost, trainer, tmp_path)
    assert [claim.metric for claim in measured[:3]] == ["seconds"] * 3
    assert (measured[3].first, measured[3].second) == ((0.5,), (0.25,))
    assert measured[0].second == (pytest.approx(5 + spent),)


def test_four_ways_begin_at_one_head_and_differ_in_what_is_trained(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = fine_tuning_ways.WaysOptions(**TINY, out=str(tmp_path), rank=2)
    fine_tuning_ways.main(options)
    asked = {name.partition("/")[2]: runs[0] for name, runs in trainer.asked.items()}
    head = asked["head"][1]
    assert all(asked[way][1] is head for way in ("probe", "plain", "rand_augment"))
    adapted = asked["lora"][1]
    assert adapted.spec.adapters.rank == 2
    assert len(adapted.spec.adapters.weights) == 13
    plain, changed = (asked[way][0].training for way in ("plain", "rand_augment"))
    assert replace(changed, augment=None) == plain
    rows = {row[0]: row[1] for row in table(tmp_path / "fine_tuning_ways.md")[2:]}
    assert list(rows) == list(fine_tuning_ways.WAYS)
    assert rows["probe"] == f"{256 + 1:,}"
    assert int(rows["lora"].replace(",", "")) < int(rows["plain"].replace(",", "")) / 20
    assert assert_claims(fine_tuning_ways, trainer, tmp_path) == []
