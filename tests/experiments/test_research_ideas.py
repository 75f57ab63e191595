"""Ideas as one function: each trains, draws its figure, and is killed and resumed to the bit."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import after_every_dispatch
from run_records import rows

import cnnjax as cj
from cnnjax.data import Dataset, Splits, from_arrays
from cnnjax.runs.results import write_results
from cnnjax.runs.results.claims import read_claims
from cnnjax.training import Interrupted
from experiments.research import adversarial, distillation, mean_teacher, simclr, sparse

Arrays = tuple[np.ndarray, np.ndarray]


def small(seed: int = 0, **arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (8,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), seed=seed, **arguments)


# What is given to `fit` for each.
IDEAS: dict[str, Callable[[], dict[str, Any]]] = {
    "distillation": lambda: {"objective": distillation.distilled(small(1))},
    "fgsm": lambda: {"objective": adversarial.adversarial(0.1)},
    "pgd": lambda: {"objective": adversarial.adversarial(0.1, steps=3)},
    "simclr": lambda: {"objective": simclr.contrast},
    "sparse": lambda: {"objective": sparse.penalised(1e-3)},
    "mean teacher": lambda: {"step": mean_teacher.mean_teacher(small(), 1.0, 10)},
}


def fit(data: Arrays, directory: Path | None = None, resume: bool = False, **given: Any) -> cj.Run:
    images, labels = data
    known = from_arrays(images, labels, weights=(np.arange(96) < 30).astype(np.float32))
    weighted = "step" in given
    splits = Splits(known if weighted else from_arrays(images, labels))
    config = cj.TrainingConfig(epochs=2, batch_size=32, resume=resume)
    return cj.fit(small(), splits, config, directory=directory, verbose=False, **given)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_that_was_stopped_and_resumed_ends_in_the_same_bits(
    squares: Arrays, tmp_path: Path, name: str
) -> None:
    given = IDEAS[name]()
    through = fit(squares, **given)
    count = iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 3 else None
    )
    try:
        with pytest.raises(Interrupted):
            fit(squares, tmp_path / "run", **given)
    finally:
        undo()
    resumed = fit(squares, tmp_path / "run", resume=True, **given)
    assert resumed.parameter_hash == through.parameter_hash
    assert resumed.history["loss"].tolist() == through.history["loss"].tolist()


@pytest.mark.parametrize(
    ("idea", "most"),
    [
        (distillation.distilled, 20),
        (adversarial.adversarial, 15),
        (simclr.contrast, 40),
        (sparse.penalised, 15),
        (mean_teacher.mean_teacher, 45),
    ],
    ids=["distillation", "adversarial", "simclr", "sparse", "mean-teacher"],
)
def test_an_idea_is_short(idea: Callable, most: int) -> None:
    assert len(inspect.getsource(idea).splitlines()) <= most


@pytest.mark.thorough
def test_the_student_follows_its_teacher(squares: Arrays) -> None:
    teacher = fit(squares).model
    images, labels = squares
    config = cj.TrainingConfig(epochs=30, batch_size=32, optimizer="adam", learning_rate=3e-3)
    # Labels that say nothing: what the student learns it has from the teacher.
    silent = (images, np.zeros_like(labels))
    objective = distillation.distilled(teacher, temperature=1.0, share=1.0)
    student = cj.fit(small(2), silent, config, objective=objective, verbose=False).model
    answers = [np.asarray(cj.predict(model, images)).argmax(axis=1) for model in (teacher, student)]
    assert (answers[0] == answers[1]).mean() > 0.9


@pytest.mark.sample(1)
@pytest.mark.parametrize("steps", [1, 3])
def test_an_attack_raises_the_loss_within_its_bounds(squares: Arrays, steps: int) -> None:
    model = fit(squares).model
    inputs, labels = model.spec.preprocess(squares[0]), squares[1]
    moved = adversarial.attacked(model, inputs, labels, 0.05, steps)
    assert float(np.abs(moved - inputs).max()) <= 0.05 + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    before, after = (cj.metrics.cross_entropy(model(x), labels).mean() for x in (inputs, moved))
    assert float(after) > float(before)


@pytest.mark.thorough
def test_views_of_one_image_find_each_other(squares: Arrays) -> None:
    images = np.random.default_rng(1).integers(0, 255, (96, 12, 12, 1), dtype=np.uint8)
    images = np.repeat(np.repeat(images[:, ::4, ::4], 4, axis=1), 4, axis=2)
    config = cj.TrainingConfig(epochs=25, batch_size=32, optimizer="adam", learning_rate=3e-3)
    net = small(num_classes=16, units=(32,))
    run = cj.fit(net, (images, squares[1]), config, objective=simclr.contrast, verbose=False)
    found = run.history["found"]
    assert found[-1] > found[0] + 0.1
    assert "accuracy" not in run.history


@pytest.mark.thorough
def test_a_price_makes_zeros(squares: Arrays) -> None:
    config = cj.TrainingConfig(epochs=20, batch_size=16, optimizer="adam", learning_rate=3e-3)
    shares = []
    for strength in (0.0, 1e-2):
        objective = sparse.penalised(strength)
        run = cj.fit(small(), squares, config, objective=objective, verbose=False)
        pruned, zeros = sparse.pruned(run.model, 1e-2)
        shares.append(zeros)
        assert cj.evaluate(pruned, squares)["accuracy"] > 0.9
    assert shares[1] > shares[0] + 0.2


@pytest.mark.thorough
def test_the_teacher_is_the_average_of_the_student(squares: Arrays) -> None:
    run = fit(squares, **IDEAS["mean teacher"]())
    student, teacher = run.value["student"], run.value["teacher"]
    kernels = [np.asarray(tree["dense1"]["kernel"]) for tree in (student, teacher, small().params)]
    # After six steps with a decay of 0.99 it has hardly moved, and in the same direction.
    far, near = kernels[0] - kernels[2], kernels[1] - kernels[2]
    assert 0 < np.abs(near).mean() < 0.06 * np.abs(far).mean()
    assert float((far * near).sum()) > 0
    assert run.parameter_hash == cj.core.trees.tree_hash({"params": teacher})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("main", "options", "arms"),
    [
        (
            distillation.main,
            distillation.DistillationOptions(epochs=1, teacher_epochs=1, images=100),
            ["teacher", "alone", "taught"],
        ),
        pytest.param(
            adversarial.main,
            adversarial.AdversarialOptions(epochs=1, attack=1),
            ["plain", "attacked"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            simclr.main,
            simclr.SimclrOptions(epochs=1, without_labels=1),
            ["random", "learnt"],
            marks=pytest.mark.slow,
        ),
        (sparse.main, sparse.SparseOptions(epochs=1, strengths=(0.0, 1e-4)), ["0", "0.0001"]),
        (
            mean_teacher.main,
            mean_teacher.MeanTeacherOptions(epochs=1),
            ["labels_alone", "mean_teacher"],
        ),
    ],
    ids=["distillation", "adversarial", "simclr", "sparse", "mean-teacher"],
)
def test_a_study_keeps_a_run_for_each_arm_and_seed_and_judges_its_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: Callable, options: Any, arms: list[str]
) -> None:
    load = cj.data.load

    def few(*arguments: Any, **named: Any) -> Splits:
        parts = load(*arguments, **named).parts
        some: dict[str, Dataset] = {k: v.subset(slice(400)) for k, v in parts.items()}
        return Splits(some["train"], None, some["test"])

    monkeypatch.setattr(cj.data, "load", few)
    out = tmp_path / "study"
    runs = main(replace(options, seeds=2, out=str(out)))
    assert list(runs) == arms
    for arm in arms:
        for seed, run in enumerate(runs[arm]):
            assert cj.load(out / arm / f"seed{seed}").spec == run.model.spec
    assert len(list(out.glob("*.png"))) == 1
    file = write_results([out], tmp_path / "RESULTS.md", say=lambda text: None)
    verdicts = [row[-2] for row in rows(file, "Claims")[2:]]
    assert len(verdicts) == len(read_claims(out / "claims.json")[0]) > 0
    assert set(verdicts) <= {"holds", "does not hold", "not decided"}
