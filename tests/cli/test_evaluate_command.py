"""`cnnjax evaluate`: the figures of a run on its own data and on others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.recipes.evaluating import evaluate_run

Output = tuple[str, str]
RUNS: list[cj.Run] = []


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> cj.Run:
    """A run on digits, trained once."""
    if not RUNS:
        RUNS.append(
            cj.fit(
                cj.create_model("mlp", units=(8,)),
                cj.data.load("digits").with_validation(0.1),
                cj.TrainingConfig(epochs=1),
                directory=tmp_path_factory.mktemp("evaluated") / "run",
                verbose=False,
            )
        )
    return RUNS[0]


def test_it_prints_what_the_run_recorded_of_its_test_data(
    cnnjax: Callable[..., Output], run: cj.Run
) -> None:
    out, err = cnnjax("evaluate", run.directory)
    assert err == ""
    assert out.splitlines()[0] == "digits test, 359 examples"
    assert f"accuracy  {run.metrics['test_accuracy']:.4f}" in out
    assert f"loss      {run.metrics['test_loss']:.4f}" in out


def test_metrics_by_name_are_in_the_json(cnnjax: Callable[..., Output], run: cj.Run) -> None:
    out, _ = cnnjax(
        "evaluate", run.directory, "--data", "digits", "--json",
        "--metrics", "f1", "recall=none", "top_k=3", "confusion_matrix",
    )  # fmt: skip
    found = json.loads(out)
    assert (found["data"], found["examples"]) == ("digits test", 359)
    test = cj.data.load("digits").test
    metrics = {"f1": cj.metrics.f1(), "each": cj.metrics.recall(None), "t": cj.metrics.top_k(3)}
    expected = cj.evaluate(run.model, test, metrics=metrics)
    assert found["metrics"]["f1"] == expected["f1"]
    assert found["metrics"]["recall_none"] == expected["each"].tolist()
    assert found["metrics"]["top_k_3"] == expected["t"]
    assert np.sum(found["metrics"]["confusion_matrix"]) == 359


def test_tables_stand_by_class(cnnjax: Callable[..., Output], run: cj.Run) -> None:
    out, _ = cnnjax("evaluate", run.directory, "--metrics", "recall=none", "confusion_matrix")
    assert "recall_none" in out
    assert out.split("\n\n")[-1].split()[:4] == ["confusion_matrix", "0", "1", "2"]
    page = evaluate_run(run.directory, metrics={"each": cj.metrics.recall(None)})._repr_html_()
    assert page.count("<table>") == 2


def test_the_part_that_was_trained_on_is_named(cnnjax: Callable[..., Output], run: cj.Run) -> None:
    out, _ = cnnjax("evaluate", run.directory, "--part", "train")
    assert "these are the examples that the model was trained on" in out


def test_a_folder_of_images_is_brought_to_the_size_of_the_model(
    cnnjax: Callable[..., Output], run: cj.Run, tmp_path: Path
) -> None:
    test = cj.data.load("digits").test
    assert test
    names = run.model.spec.label_names or tuple(map(str, range(10)))
    for i, name in enumerate(names):
        (tmp_path / "own" / name).mkdir(parents=True)
        image = Image.fromarray(np.asarray(test.inputs)[np.asarray(test.labels) == i][0, ..., 0])
        image.resize((40, 40)).save(tmp_path / "own" / name / "a.png")
    out, _ = cnnjax("evaluate", run.directory, "--data", tmp_path / "own")
    assert "10 examples" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "recal"], "there is no metric 'recal'. Did you mean 'recall'"),
        (["--metrics", "top_k=99"], "k of top_k must be at most the number of classes, 10, got 99"),
        (["--metrics", "f1=most"], "average must be one of 'macro', 'micro', None, got 'most'"),
        (["--data", "digits", "--part", "validation"], "digits has no part 'validation'"),
        (["--metrics", "accuracy"], "'accuracy' is measured already, by the model's task"),
    ],
)
def test_errors_are_a_line(
    cnnjax: Callable[..., Output], run: cj.Run, options: list[str], message: str
) -> None:
    out, err = cnnjax("evaluate", run.directory, *options, status=1)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_data_of_other_classes_are_refused(tmp_path: Path) -> None:
    model = cj.create_model("mlp", units=(4,), input_shape=(4, 4, 1), num_classes=2)
    model = model.replace(spec=replace(model.spec, label_names=("cat", "dog")))
    cj.save(model, tmp_path / "model")
    for name in ("ant", "bee"):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "own" / name / "a.png")
    with pytest.raises(ValueError, match="ant"):
        evaluate_run(tmp_path / "model", tmp_path / "own")


def test_classes_without_names_take_those_of_the_model(tmp_path: Path) -> None:
    model = cj.create_model("mlp", units=(4,), num_classes=10)
    names = tuple(f"letter {i}" for i in range(10))
    cj.save(model.replace(spec=replace(model.spec, label_names=names)), tmp_path / "model")
    digits = cj.data.load("digits").test
    assert digits
    np.savez(tmp_path / "digits.npz", x=digits.inputs, y=digits.labels)
    found = evaluate_run(tmp_path / "model", tmp_path / "digits.npz")
    assert (found.label_names, found.examples) == (names, 359)


def test_other_names_of_as_many_classes_are_refused(tmp_path: Path) -> None:
    @cj.data.reader("a .dots file", lambda path: path.suffix == ".dots")
    def read_dots(path: Path, reading: object) -> cj.data.Splits:
        images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.arange(2)
        return cj.data.Splits(cj.data.from_arrays(images, labels, label_names=("ant", "bee")))

    (tmp_path / "some.dots").touch()
    model = cj.create_model("mlp", units=(4,), input_shape=(4, 4, 1), num_classes=2)
    spec = replace(model.spec, label_names=("cat", "dog"))
    cj.save(model.replace(spec=spec), tmp_path / "model")
    with pytest.raises(ValueError, match="has the classes ant, bee, and mlp knows cat, dog: a lab"):
        evaluate_run(tmp_path / "model", tmp_path / "some.dots")
