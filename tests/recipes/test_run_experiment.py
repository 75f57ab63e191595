"""Experiments from the command line to the report, and their parts."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, python, quickstart_run, start, wait_for
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.plot.results import draw_test
from cnnjax.recipes import (
    Experiment,
    Options,
    RecipeOptions,
    comparison,
    load_data,
    mean_curve,
    result_line,
    run_experiment,
    run_seeds,
)
from cnnjax.recipes.shipped import cifar10, imdb_conv1d, mnist_convnet, mnist_lenet, quickstart
from cnnjax.runs import RunError
from cnnjax.training import Run
from experiments import _studies, dense_head, downsampling, mnist_dense_vs_conv

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The quickstart over two epochs: (run directory, what it printed)."""
    return quickstart_run(tmp_path_factory)


@pytest.fixture
def npz(squares: Arrays, tmp_path: Path) -> Path:
    """Squares for training and a part of them for the test, as a file."""
    images, labels = squares
    file = tmp_path / "squares.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    return file


def small(data: Path, **changes: object) -> Experiment:
    training = cj.TrainingConfig(epochs=2, batch_size=8, monitor=None)
    values = {
        "name": "small",
        "description": "squares and a small net",
        "model": "mlp",
        "training": training,
        "data": str(data),
        "arguments": {"units": (16,)},
        **changes,
    }
    return Experiment(**values)


# The quickstart


@pytest.mark.thorough
def test_the_quickstart_prints_data_model_epochs_and_result(finished: tuple[Path, str]) -> None:
    run, out = finished
    assert "1,294 train, 144 validation, 359 test images" in out
    assert re.search(r"total +93,322", out)
    assert len(re.findall(r"^epoch [12]/2  loss ", out, re.MULTILINE)) == 2
    accuracy = json.loads((run / "run.json").read_text())["metrics"]["test_accuracy"]
    assert f"mnist_convnet test accuracy: {100 * accuracy:.2f} %" in out
    assert f"report: {run / 'report.html'}" in out
    assert "\x1b" not in out


@pytest.mark.thorough
def test_the_quickstart_leaves_a_complete_run_directory(finished: tuple[Path, str]) -> None:
    run, _ = finished
    for name in ("config.json", "run.json", "metrics.jsonl", "model.json", "report.html"):
        assert (run / name).stat().st_size > 100, name
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["41", "82"]
    config = json.loads((run / "config.json").read_text())["training"]
    assert (config["epochs"], config["optimizer"], config["augment"]["width_shift"]) == (
        2,
        "adam",
        2,
    )
    facts = json.loads((run / "run.json").read_text())
    assert (facts["status"], facts["experiment"], facts["seed"]) == ("finished", "quickstart", 0)
    assert facts["data"]["train"]["name"].startswith("digits train")
    assert facts["machine"]["backend"]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


@pytest.mark.thorough
def test_the_quickstart_learns(finished: tuple[Path, str]) -> None:
    run, _ = finished
    facts = json.loads((run / "run.json").read_text())
    assert facts["metrics"]["test_accuracy"] > 0.8
    model = cj.load(run)
    means = cj.evaluate(model, cj.data.load("digits").test)
    assert means["accuracy"] == pytest.approx(facts["metrics"]["test_accuracy"])
    assert trees.tree_hash(model.variables) == facts["parameter_hash"]
    assert model.spec.label_names == tuple("0123456789")


@pytest.mark.thorough
def test_the_quickstart_draws_its_figures(finished: tuple[Path, str]) -> None:
    run, _ = finished
    for name in ("curves", "confusion_matrix", "mistakes"):
        image = Image.open(run / "figures" / f"{name}.png")
        assert min(image.size) > 200
        assert np.asarray(image.convert("L")).std() > 1, f"{name} is blank"


@pytest.mark.thorough
def test_the_quickstart_writes_a_self_contained_report(finished: tuple[Path, str]) -> None:
    run, _ = finished
    facts = json.loads((run / "run.json").read_text())
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"{100 * facts['metrics']['test_accuracy']:.2f} %" in page
    assert facts["parameter_hash"] in page
    assert "http://" not in page
    assert "https://" not in page
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert len(sources) == 4  # curves, augmentation, confusion matrix, mistakes
    assert all(source.startswith("data:image/png;base64,") for source in sources)


@pytest.mark.thorough
def test_ctrl_c_saves_says_how_to_go_on_and_the_resumed_run_has_the_same_bits(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("-m", "experiments.quickstart", "--epochs", "2", "--out", run)
    child = start(*command, "--checkpoint-every", "5")
    wait_for(child, (run / "checkpoints" / "5").is_dir)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 130
    assert re.match(rf"stopped in epoch \d, step \d+ of 41 and saved in {run}: .*--resume", err)
    assert len(err.splitlines()) == 1
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    out = python(*command, "--resume").stdout
    assert re.search(rf"resumed {run} at epoch \d, step \d+", out)
    wanted = json.loads((finished[0] / "run.json").read_text())
    facts = json.loads((run / "run.json").read_text())
    assert facts["parameter_hash"] == wanted["parameter_hash"]
    assert facts["metrics"] == wanted["metrics"]


# Errors of the command line


@pytest.mark.thorough
def test_an_unknown_data_set_is_one_line_on_stderr() -> None:
    done = python("-m", "experiments.quickstart", "--data", "mnit", status=1)
    assert done.stderr.startswith("error: data set 'mnit' was not found: looked in ")
    assert "Did you mean 'mnist'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.thorough
def test_help_explains_every_option() -> None:
    out = " ".join(
        python("-m", "experiments.mnist_convnet", "--help", COLUMNS="100").stdout.split()
    )
    assert "usage: python -m experiments.mnist_convnet" in out
    assert "93,322 parameters" in out
    for option, words in {
        "--seed": "Of everything random",
        "--seeds": "Number of runs",
        "--epochs": "Passes over the training data",
        "--data": "Name of a data set",
        "--data-dir": "Where TensorFlow Datasets keeps its data",
        "--out": "Run directory to write",
        "--resume": "Go on with the run",
        "--checkpoint-every": "Steps between checkpoints",
        "--recipe": "reported: the hyper-parameters of the reported figure",
    }.items():
        assert option in out
        assert words in out


@pytest.mark.thorough
def test_a_wrong_option_is_refused_with_status_2() -> None:
    done = python("-m", "experiments.quickstart", "--epoch", "2", status=2)
    assert "--epochs" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# run_experiment


def test_an_experiment_trains_draws_and_reports(npz: Path, tmp_path: Path) -> None:
    run = run_experiment(small(npz), tmp_path / "run", verbose=False)
    assert run.directory == tmp_path / "run"
    assert set(run.metrics) == {"test_loss", "test_accuracy"}
    figures = {p.name for p in (tmp_path / "run" / "figures").iterdir()}
    assert {"curves.png", "confusion_matrix.png"} <= figures
    assert (tmp_path / "run" / "report.html").is_file()
    assert cj.load(tmp_path / "run").spec.arguments == {"units": (16,)}


def test_verbose_false_prints_nothing(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_experiment(small(npz), tmp_path / "run", verbose=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.thorough
def test_validation_data_are_set_aside_by_the_seed(npz: Path, tmp_path: Path) -> None:
    prints = []
    for seed in (0, 0, 1):
        experiment = small(npz, validation=0.25)
        experiment = replace(experiment, training=replace(experiment.training, seed=seed))
        directory = tmp_path / str(len(prints))
        run_experiment(experiment, directory, verbose=False)
        facts = json.loads((directory / "run.json").read_text())
        assert facts["data"]["validation"]["examples"] == 24
        prints.append(facts["data"]["validation"]["fingerprint"])
    assert prints[0] == prints[1] != prints[2]


def test_data_without_a_test_part(squares: Arrays, tmp_path: Path) -> None:
    file = tmp_path / "train.npz"
    np.savez(file, x=squares[0], y=squares[1])
    run = run_experiment(small(file), tmp_path / "run", verbose=False)
    assert run.metrics == {}
    assert [p.name for p in (tmp_path / "run" / "figures").iterdir()] == ["curves.png"]
    assert "loss" in result_line(small(file), [run])


def test_label_names_of_the_data_are_those_of_the_model(squares: Arrays, tmp_path: Path) -> None:
    file = tmp_path / "named.npz"
    np.savez(file, x=squares[0], y=squares[1], label_names=["left", "middle", "right"])
    run = run_experiment(small(file), tmp_path / "run", verbose=False)
    assert run.model.spec.label_names == ("left", "middle", "right")
    assert cj.load(tmp_path / "run").spec.label_names == ("left", "middle", "right")


def test_an_unknown_model_offers_the_nearest(npz: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model 'mpl'\. Did you mean 'mlp'"):
        run_experiment(small(npz, model="mpl", arguments={}), tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


def test_a_directory_with_a_run_is_refused_without_resume(npz: Path, tmp_path: Path) -> None:
    run_experiment(small(npz), tmp_path / "run", verbose=False)
    with pytest.raises(RunError, match="already holds a run"):
        run_experiment(small(npz), tmp_path / "run", verbose=False)


def mistaken(**arguments: object) -> tuple[cj.Model, cj.data.Dataset]:
    """An untrained model and data on which it errs."""
    model = cj.create_model("mlp", input_shape=(12, 12, 1), units=(4,), **arguments)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 12, 12, 1), np.uint8)
    probs = cj.predict(model, images)
    said = probs.argmax(axis=1) if probs.shape[1] > 1 else (probs[:, 0] > 0.5).astype(int)
    return model, cj.data.from_arrays(images, (said + 1) % max(probs.shape[1], 2))


@pytest.mark.thorough
@pytest.mark.parametrize("classes", [1, 3])
def test_mistakes_are_drawn_and_removed_when_there_are_none(tmp_path: Path, classes: int) -> None:
    model, wrong = mistaken(num_classes=classes)
    draw_test(model, wrong, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"confusion_matrix.png", "mistakes.png"}
    right = cj.data.from_arrays(wrong.inputs, (wrong.labels - 1) % max(classes, 2))
    draw_test(model, right, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"confusion_matrix.png"}


# Options, seeds, directories


def make(npz: Path) -> Callable[[Options], Experiment]:
    return lambda options: replace(
        small(npz).with_options(replace(options, data=str(npz))), name="small"
    )


@pytest.mark.thorough
def test_every_seed_gets_a_run_and_the_spread_is_printed(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(seed=3, seeds=2, epochs=1, out=str(tmp_path / "runs"))
    runs = run_seeds(make(npz), options)
    assert [run.directory.name for run in runs] == ["seed3", "seed4"]
    assert runs[0].parameter_hash != runs[1].parameter_hash
    accuracies = [run.metrics["test_accuracy"] for run in runs]
    figure = tmp_path / "runs" / "seeds.png"
    *_, line, last = capsys.readouterr().out.splitlines()
    assert f"mlp test accuracy: {100 * np.mean(accuracies):.2f} %" in line
    assert f"standard deviation {100 * np.std(accuracies, ddof=1):.2f} % over 2 seeds" in line
    assert last == f"curves: {figure}"
    assert figure.is_file()


def test_the_curve_of_several_runs_is_their_mean_within_their_deviation() -> None:
    histories = [{"epoch": [1, 2], "loss": [4, 2]}, {"epoch": [1, 2, 3], "loss": [2, 1, 1]}]
    runs = [
        Run(
            cj.create_model("mlp"),
            {k: np.array(v, float) for k, v in h.items()},
            {},
            None,
            "",
            1,
            0,
        )
        for h in histories
    ]
    np.testing.assert_allclose(mean_curve(runs, "loss"), [[1, 2], [3, 1.5], [2**0.5, 0.5**0.5]])
    np.testing.assert_allclose(mean_curve(runs[:1], "loss"), [[1, 2], [4, 2], [0, 0]])


def test_one_seed_writes_into_the_directory_itself(npz: Path, tmp_path: Path) -> None:
    (run,) = run_seeds(make(npz), Options(epochs=1, out=str(tmp_path / "run")))
    assert run.directory == tmp_path / "run"


def test_each_seed_is_profiled_in_a_folder_of_its_own(npz: Path, tmp_path: Path) -> None:
    options = Options(seeds=2, epochs=2, out=str(tmp_path / "run"), profile=str(tmp_path / "speed"))
    runs = run_seeds(make(npz), options)
    found = sorted(path.parent.name for path in tmp_path.glob("speed/*/profile.json"))
    assert found == [f"{make(npz)(options).name}-seed{seed}" for seed in (0, 1)]
    assert len({run.parameter_hash for run in runs}) == 2


def test_no_seeds_are_refused(npz: Path) -> None:
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        run_seeds(make(npz), Options(seeds=0))


def test_options_change_what_they_name_and_nothing_else(npz: Path) -> None:
    base = small(npz, validation=0.1)
    options = Options(seed=7, epochs=9, data="other.npz", data_dir="d", checkpoint_every=4)
    changed = base.with_options(options)
    assert changed.training == replace(base.training, seed=7, epochs=9, checkpoint_every=4)
    assert (changed.data, changed.data_dir) == ("other.npz", "d")
    assert changed.test == 0.15  # other data are measured too, where they have no part for it
    same = {"training": base.training, "data": base.data, "data_dir": base.data_dir, "changed": {}}
    same |= {"test": base.test}
    assert replace(changed, **same) == base
    assert base.with_options(Options(data=str(npz))).training.epochs == 2


def test_a_reported_figure_belongs_to_its_data() -> None:
    figure = {"test_accuracy": 0.9918}
    assert mnist_convnet.experiment(RecipeOptions()).reported == figure
    assert mnist_convnet.experiment(RecipeOptions(data="digits")).reported == {}


def test_the_reported_recipes_select_on_the_last_fifth_of_their_own_data(npz: Path) -> None:
    base = replace(small(npz), validation=0.2, validation_last=True)
    splits = load_data(base)
    assert splits.source
    assert splits.source["steps"] == [["with_last_for_validation", 0.2]]
    # Other data may go class by class.
    other = load_data(replace(base, data="digits").with_options(Options(data=str(npz))))
    assert other.source
    assert other.source["steps"] == [["with_validation", 0.2, 0]]
    for made in (
        cifar10.experiment(cifar10.CifarOptions(recipe="reported")),
        mnist_lenet.experiment(RecipeOptions(recipe="reported")),
        imdb_conv1d.experiment(imdb_conv1d.ImdbOptions(recipe="reported")),
    ):
        assert (made.validation, made.validation_last) == (0.2, True)


@pytest.mark.parametrize("share", [0.0, None])
def test_the_last_part_for_validation_needs_a_share(npz: Path, share: float | None) -> None:
    with pytest.raises(ValueError, match=f"validation_last=True needs .* validation={share}"):
        replace(small(npz), validation=share, validation_last=True)


@pytest.mark.thorough
def test_by_default_runs_lie_in_checkpoints_by_name_and_seed(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (
        run_experiment(make(npz)(Options(epochs=1)), verbose=False).directory for _ in range(2)
    )
    assert first != second
    for directory in (first, second):
        assert directory.parent == tmp_path / "checkpoints" / "small"
        assert re.fullmatch(r"seed0-\d{8}-\d{6}(-\d+)?", directory.name)


@pytest.mark.thorough
def test_resume_without_a_directory_takes_the_newest_run_of_the_seed(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resumed = run_experiment(make(npz)(Options(epochs=1, resume=True)))
    assert "starting from the beginning" in capsys.readouterr().out
    other = run_experiment(make(npz)(Options(epochs=1, seed=1)), verbose=False)
    longer = run_experiment(make(npz)(Options(epochs=2, resume=True)))
    assert f"resumed {resumed.directory} at epoch 2, step 0" in capsys.readouterr().out
    assert longer.directory == resumed.directory != other.directory
    through = run_experiment(make(npz)(Options(epochs=2)), tmp_path / "through", verbose=False)
    assert longer.parameter_hash == through.parameter_hash


def fake_run(**metrics: float) -> Run:
    model = cj.create_model("mlp", input_shape=(2, 2, 1), num_classes=2, units=(1,))
    history = {"loss": np.array([0.5]), "accuracy": np.array([0.75])}
    return Run(model, history, metrics, None, "", 1, 12.4)


def test_the_result_line_has_mean_spread_and_reported_figure(npz: Path) -> None:
    experiment = small(npz, recipe="tuned", reported={"test_accuracy": 0.9})
    runs = [fake_run(test_accuracy=a, val_accuracy=0.1) for a in (0.5, 0.7)]
    line = result_line(experiment, runs)
    for text in (
        "mlp test accuracy: 60.00 %",
        "standard deviation 14.14 % over 2 seeds",
        "reported with Keras: 90.00 %",
        "recipe tuned",
        "12 s",
    ):
        assert text in line
    assert "standard deviation" not in result_line(experiment, runs[:1])
    assert "val accuracy: 25.00 %" in result_line(small(npz), [fake_run(val_accuracy=0.25)])
    assert "loss 0.5000" in result_line(small(npz), [fake_run()])


# The experiments themselves


def test_the_reported_recipe_of_the_convnet_is_that_of_the_figure() -> None:
    experiment = mnist_convnet.experiment(RecipeOptions(seed=5))
    assert experiment.training == cj.TrainingConfig(
        epochs=5, batch_size=64, optimizer="rmsprop", learning_rate=1e-3, seed=5
    )
    assert (experiment.recipe, experiment.model, experiment.data) == (
        "reported",
        "mnist_convnet",
        "mnist",
    )


def test_the_quickstart_needs_no_files() -> None:
    experiment = quickstart.experiment(quickstart.QuickstartOptions())
    assert experiment.data == "digits"
    assert experiment.reported == {}


def test_the_claims_on_dense_and_convnet_are_on_what_is_trained() -> None:
    options = RecipeOptions()
    names = {mnist_dense_vs_conv.experiment(m, options).name for m in mnist_dense_vs_conv.MODELS}
    assert {name for c in mnist_dense_vs_conv.CLAIMS for name in (c.first, c.second)} == names
    _, fewer = mnist_dense_vs_conv.CLAIMS
    assert fewer.by == 0.75 * cj.summary(cj.create_model("mlp")).parameters


@pytest.mark.slow
def test_dense_and_convnet_are_trained_alike_and_compared(
    squares: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.pad(squares[0], ((0, 0), (8, 8), (8, 8), (0, 0)))
    file = tmp_path / "large.npz"
    np.savez(file, x_train=images, y_train=squares[1], x_test=images, y_test=squares[1])
    options = RecipeOptions(data=str(file), epochs=1, out=str(tmp_path / "runs"))
    runs = mnist_dense_vs_conv.main(options)
    assert {name: run.directory.name for name, (run,) in runs.items()} == {
        "mlp": "mlp",
        "mnist_convnet": "mnist_convnet",
    }
    stored = [
        json.loads((run.directory / "config.json").read_text())["training"]
        for (run,) in runs.values()
    ]
    assert stored[0] == stored[1]
    *_, dense, conv = capsys.readouterr().out.splitlines()
    assert dense.split()[:2] == ["mlp", "403,459"]
    assert conv.split()[:2] == ["mnist_convnet", "92,867"]
    for name, line in (("mlp", dense), ("mnist_convnet", conv)):
        assert f"{100 * runs[name][0].metrics['test_accuracy']:.2f}" in line


def test_variants_are_compared_with_mean_and_spread() -> None:
    runs = {
        "a": [fake_run(test_accuracy=x, val_accuracy=0.5) for x in (0.5, 0.7)],
        "longer": [fake_run(test_accuracy=0.25)],
    }
    lines = comparison(runs).splitlines()
    assert lines[0].split() == ["parameters", "training", "validation", "test", "seconds"]
    assert lines[1].startswith("a       ")
    assert "75.00 ± 0.00" in lines[1]
    assert "50.00 ± 0.00" in lines[1]
    assert "60.00 ± 14.14" in lines[1]
    assert lines[2].split() == ["longer", "9", "75.00", "25.00", "12"]


def test_the_reported_recipes_are_those_of_the_figures() -> None:
    lenet = mnist_lenet.experiment(RecipeOptions(seed=1))
    assert lenet.training == cj.TrainingConfig(
        epochs=20, batch_size=128, optimizer="adam", learning_rate=1e-3, monitor=None, seed=1
    )
    assert (lenet.model, lenet.data, lenet.validation) == ("lenet", "mnist", 0.2)
    for name, model in (("plain", "cifar_plain"), ("deep", "cifar_deep")):
        cifar = cifar10.experiment(cifar10.CifarOptions(model=name))
        assert cifar.training == cj.TrainingConfig(
            epochs=20, batch_size=128, optimizer="rmsprop", learning_rate=1e-3, monitor=None
        )
        assert (cifar.model, cifar.data, cifar.validation) == (model, "cifar10", 0.2)


def test_a_recipe_without_a_figure_keeps_none_of_other_data() -> None:
    assert cifar10.experiment(cifar10.CifarOptions(data="digits")).reported == {}


@pytest.mark.slow
def test_ways_of_downsampling_differ_in_nothing_else(
    squares: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.pad(squares[0], ((0, 0), (8, 8), (8, 8), (0, 0)))
    file = tmp_path / "large.npz"
    np.savez(file, x_train=images, y_train=squares[1], x_test=images, y_test=squares[1])
    options = _studies.StudyOptions(data=str(file), epochs=1, out=str(tmp_path / "runs"), seeds=2)
    runs = downsampling.main(options)
    assert sorted(runs) == ["average", "max", "stride"]
    layers = {way: set(group[0].model.layer_names) for way, group in runs.items()}
    assert layers["max"] == layers["average"]
    assert layers["max"] == layers["stride"] - {"crop2"} | {"pool1", "pool2"}
    assert (tmp_path / "runs" / "stride" / "seed1" / "report.html").is_file()
    assert len({group[0].parameter_hash for group in runs.values()}) == 3
    assert "±" in capsys.readouterr().out


@pytest.mark.thorough
def test_dense_heads_differ_in_depth_and_width() -> None:
    options = dense_head.HeadOptions(train_examples=100)
    experiments = [dense_head.experiment(head, options) for head in dense_head.HEADS]
    assert len({e.name for e in experiments}) == len(experiments)
    assert {e.train_examples for e in experiments} == {100}
    # The result is the best epoch on the validation data, not the last one.
    assert {e.training.monitor for e in experiments} == {"accuracy"}
    model = cj.create_model("mnist_convnet", head=(512, 512))
    assert [n for n in model.layer_names if "dense" in n] == ["dense1", "dense2"]


# All but what stands in for the package where one of them is run as a script.
EXPERIMENTS = sorted({p.stem for p in (ROOT / "experiments").glob("[a-z]*.py")} - {"cnnjax"})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_how_to_run_it(name: str) -> None:
    text = (ROOT / "experiments" / f"{name}.py").read_text()
    assert f"Command:   python -m experiments.{name}" in text
    assert "Reported:" in text


@pytest.mark.slow
def test_the_quickstart_reaches_its_bar(tmp_path: Path) -> None:
    run = tmp_path / "run"
    python("-m", "experiments.quickstart", "--out", run)
    facts = json.loads((run / "run.json").read_text())
    assert facts["metrics"]["test_accuracy"] >= 0.985
    shutil.rmtree(run)


@pytest.mark.slow
def test_the_convnet_reaches_the_reported_figure_on_mnist(tfds_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = ("--recipe", "tuned", "--data-dir", tfds_dir, "--out", run)
    python("-m", "experiments.mnist_convnet", *recipe)
    facts = json.loads((run / "run.json").read_text())
    assert facts["metrics"]["test_accuracy"] >= 0.9918


@pytest.mark.thorough
def test_an_experiment_may_measure_more(npz: Path, tmp_path: Path) -> None:
    experiment = Experiment(
        name="measured", description="one layer", model="mlp", data=str(npz),
        arguments={"units": (4,)}, training=cj.TrainingConfig(epochs=1, batch_size=32),
        metrics={"f1": cj.metrics.f1()},
    )  # fmt: skip
    run = run_experiment(experiment, tmp_path / "run", verbose=False)
    assert 0 <= run.metrics["test_f1"] <= 1
    assert "test f1" in (tmp_path / "run" / "report.html").read_text()


class Both(linen.Module):
    """A class and a value of an image."""

    @linen.compact
    def __call__(self, images):
        flat = images.mean((1, 2))
        return {"kind": linen.Dense(2)(flat), "size": linen.Dense(1)(flat)}


def test_a_model_of_several_outputs_is_trained_and_reported(tmp_path: Path) -> None:
    tasks = {"kind": "classes", "size": "values"}
    labels = {"kind": np.arange(4) % 2, "size": np.arange(4.0)}
    data = cj.data.from_arrays(np.zeros((4, 8, 8, 1), np.uint8), labels, task=tasks)
    model = cj.Model.from_module(Both(), (8, 8, 1), task=tasks)
    config = cj.TrainingConfig(epochs=1, batch_size=4)
    experiment = Experiment("both", "a class and a value", "mlp", config)
    splits = cj.data.Splits(data, test=data)
    run_experiment(experiment, tmp_path / "run", splits=splits, model=model, verbose=False)
    assert (tmp_path / "run" / "report.html").exists()
    with pytest.raises(ValueError, match="has inputs or labels by name, which mlp does not"):
        run_experiment(experiment, tmp_path / "other", splits=splits, verbose=False)
