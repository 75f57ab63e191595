"""What an addition costs: each is one file, which knows the public names of cnnjax alone."""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import cnnjax as cj

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def added(tmp_path: Path) -> Iterator[Any]:
    """Writes a file and imports it."""
    names = []

    def add(name: str, text: str) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(dedent(text))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield add
    for name in names:
        del sys.modules[name]


def fit(data: Any, model: cj.Model, directory: Path | None = None, **more: Any) -> cj.Run:
    config = cj.TrainingConfig(epochs=2, batch_size=32, optimizer="adam", learning_rate=0.01)
    return cj.fit(model, data, config, directory=directory, verbose=False, **more)


def test_a_model(added: Any, squares: Arrays, cnnjax: Any) -> None:
    added(
        "added_model",
        """
        from flax import linen
        import cnnjax as cj

        @cj.models.register("added_net", (12, 12, 1), num_classes=3, head=("logits",))
        class AddedNet(linen.Module):
            '''One convolution and the mean of its maps.'''

            num_classes: int = 3
            filters: int = 4

            @linen.compact
            def __call__(self, inputs):
                x = cj.nn.Conv2D(self.filters, 3, name="conv")(inputs)
                return linen.Dense(self.num_classes, name="logits")(x.mean(axis=(1, 2)))
        """,
    )
    try:
        model = cj.create_model("added_net", filters=2)
        assert [row.name for row in cj.summary(model).rows] == ["conv", "logits"]
        assert "added_net" in cnnjax("list")[0]
        assert fit(squares, model).history["loss"].shape == (2,)
    finally:
        del cj.models.BUILDERS["added_net"]


TASK = """
import jax.numpy as jnp
import cnnjax as cj

def margin(outputs, labels):
    right = jnp.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
    others = jnp.where(jnp.arange(outputs.shape[1])[None] == labels[:, None], -jnp.inf, outputs)
    return right - others.max(axis=1)

def hinge(outputs, labels):
    return jnp.maximum(1 - margin(outputs, labels), 0)

TASK = cj.Task("margins", hinge, {"margin": margin})
"""


def test_a_task_with_its_loss_and_metric(added: Any, squares: Arrays, tmp_path: Path) -> None:
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, inputs: Any) -> Any:
            return linen.Dense(3)(inputs.reshape(len(inputs), -1))

    module = added("added_task", TASK)
    model = cj.Model.from_module(Net(), (12, 12, 1), task=module.TASK)
    run = fit(squares, model, tmp_path / "run")
    outputs = np.asarray(run.model(squares[0].astype(np.float32) / 255), np.float64)
    right = outputs[np.arange(96), squares[1]]
    others = np.where(np.arange(3) == squares[1][:, None], -np.inf, outputs).max(axis=1)
    means = cj.evaluate(run.model, squares)
    assert means["margin"] == pytest.approx(np.mean(right - others), rel=1e-4)
    assert means["loss"] == pytest.approx(np.mean(np.maximum(1 - (right - others), 0)), rel=1e-4)
    assert run.history["margin"].shape == (2,)


METRIC = """
import jax.numpy as jnp
import optax
import cnnjax as cj

def focal(outputs, labels):
    losses = cj.metrics.softmax_cross_entropy(outputs, labels)
    return (1 - jnp.exp(-losses)) ** 2 * losses

def update(outputs, batch):
    margin = outputs.max(axis=1) - jnp.sort(outputs, axis=1)[:, -2]
    return {"narrow": ((margin < 1) * batch["mask"]).sum(), "all": batch["mask"].sum()}

NARROW = cj.metrics.Metric(
    lambda: {"narrow": 0.0, "all": 0.0}, update, lambda s: s["narrow"] / s["all"], mode="min"
)
OWN = {"loss": focal, "optimizer": optax.lion(1e-3), "metrics": {"narrow": NARROW}}
"""


def test_a_metric_with_ones_own_loss_and_optimiser(
    added: Any, squares: Arrays, tmp_path: Path
) -> None:
    own = added("added_metric", METRIC).OWN
    model = cj.create_model("mlp", units=(8,), input_shape=(12, 12, 1), num_classes=3)
    data = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25)

    def train(directory: Path, resume: bool = False, **more: Any) -> cj.Run:
        config = cj.TrainingConfig(epochs=3, batch_size=24, monitor="narrow", resume=resume)
        return cj.fit(model, data, config, directory=directory, verbose=False, **own, **more)

    def broken(moment: cj.training.Moment) -> None:
        raise OSError("gone")

    run = train(tmp_path / "run")
    values = run.history["val_narrow"]
    assert run.metrics["val_narrow"] == values.min()
    assert run.best_epoch == 1 + values.argmin()
    with pytest.raises(OSError, match="gone"):
        train(tmp_path / "again", callbacks=[broken])
    resumed = train(tmp_path / "again", resume=True)
    assert resumed.parameter_hash == run.parameter_hash
    assert cj.reproduce(tmp_path / "run", data, model, **own, verbose=False).same


def test_a_method_of_explanation(added: Any) -> None:
    added(
        "added_method",
        """
        import jax.numpy as jnp
        import cnnjax as cj

        @cj.explain.method()
        def added_ramp(model, images, target=None):
            '''Heat that rises to the right.'''
            ramp = jnp.linspace(0, 1, images.shape[2])
            return jnp.broadcast_to(ramp, images.shape[:3])
        """,
    )
    try:
        methods = cj.explain.methods_at(None, ["added_ramp"])
        model = cj.create_model("mnist_convnet")
        heat = methods["added_ramp"](model, np.zeros((2, 28, 28, 1), np.float32), None)
        np.testing.assert_allclose(heat[1, 5], np.linspace(0, 1, 28), rtol=1e-6)
    finally:
        del cj.explain.METHODS["added_ramp"]


def test_a_file_format(added: Any, squares: Arrays, tmp_path: Path) -> None:
    module = added(
        "added_format",
        """
        import numpy as np
        import cnnjax as cj

        @cj.data.reader("a .raw12 file of 12x12 images", lambda path: path.suffix == ".raw12")
        def read_raw12(path, reading):
            '''A byte of the label before the 144 of each image.'''
            rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 145)
            images, labels = rows[:, 1:].reshape(-1, 12, 12, 1), rows[:, 0].astype(np.int32)
            return cj.data.Splits(train=cj.data.from_arrays(images, labels))
        """,
    )
    assert module
    rows = np.concatenate([squares[1].astype(np.uint8)[:, None], squares[0].reshape(96, -1)], 1)
    (tmp_path / "squares.raw12").write_bytes(rows.tobytes())
    train = cj.data.load(str(tmp_path / "squares.raw12")).train
    np.testing.assert_array_equal(train.inputs, squares[0])
    np.testing.assert_array_equal(train.labels, squares[1])


def test_a_callback(added: Any, squares: Arrays, tmp_path: Path) -> None:
    module = added(
        "added_callback",
        """
        import csv

        class CSVLogger:
            '''Writes some numbers of each epoch into a table.'''

            def __init__(self, file):
                self.file = file

            def __call__(self, moment):
                record = moment.record
                with self.file.open("a", newline="") as table:
                    csv.writer(table).writerow([record["epoch"], record["loss"]])
        """,
    )
    model = cj.create_model("mlp", units=(8,), input_shape=(12, 12, 1), num_classes=3)
    logger = module.CSVLogger(tmp_path / "log.csv")
    run = fit(squares, model, tmp_path / "run", callbacks=[logger])
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().split()]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [float(loss) for _, loss in rows] == [json.loads(line)["loss"] for line in lines]
    assert [int(epoch) for epoch, _ in rows] == [1, 2]
    assert run.parameter_hash == fit(squares, model).parameter_hash


def test_a_logger(added: Any, squares: Arrays, tmp_path: Path) -> None:
    module = added(
        "added_logger",
        """
        import cnnjax as cj

        class Lines(cj.training.loggers.Logger):
            '''Writes a line of text for each epoch.'''

            def start(self, beginning):
                self.file = beginning.directory / "lines.txt"

            def log(self, record):
                with self.file.open("a") as file:
                    print(record["epoch"], record["loss"], file=file)
        """,
    )
    model = cj.create_model("mlp", units=(8,), input_shape=(12, 12, 1), num_classes=3)
    run = fit(squares, model, tmp_path / "run", loggers=[module.Lines()])
    lines = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    assert lines == [f"{i} {loss}" for i, loss in enumerate(run.history["loss"].tolist(), 1)]


@pytest.mark.parametrize("callbacks", [print, "abc", [print, None]], ids=["one", "text", "None"])
def test_callbacks_that_are_none_are_refused_before_the_training(
    squares: Arrays, callbacks: Any
) -> None:
    model = cj.create_model("mlp", units=(8,), input_shape=(12, 12, 1), num_classes=3)
    with pytest.raises(ValueError, match="callbacks must be a sequence of functions of a Mo"):
        fit(squares, model, callbacks=callbacks)


def test_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "added_experiment.py"
    file.write_text(
        dedent(
            """
            '''An experiment of one's own.'''

            import cnnjax as cj
            from cnnjax.cli import command
            from cnnjax.recipes import Experiment, Options, run_seeds

            def experiment(options: Options) -> Experiment:
                return Experiment(
                    name="added_experiment", description="one layer", model="mlp", data="digits",
                    arguments={"units": (8,)}, validation=0.1,
                    training=cj.TrainingConfig(epochs=1, batch_size=64),
                ).with_options(options)

            def main(options: Options) -> None:
                run_seeds(experiment, options)

            if __name__ == "__main__":
                command(main, Options, "added_experiment")
            """
        )
    )
    for name in ("CNNJAX_COMPILATION_CACHE", "CNNJAX_ALLOCATOR"):
        monkeypatch.setenv(name, "0")  # the settings of this process stay
    options = ["--data", "digits", "--seeds", "1", "--out", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [str(file), *options])
    runpy.run_path(str(file), run_name="__main__")
    out = capsys.readouterr().out
    record = json.loads(next((tmp_path / "runs").rglob("run.json")).read_text())
    assert record["experiment"] == "added_experiment"
    assert record["status"] == "finished"
    assert "report.html" in out
