"""`reproduce`: the same bits again, or what differs, named."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import python, quickstart_run
from modules import Convnet

import cnnjax as cj
from cnnjax.core.storage import text_hash
from cnnjax.models.zoo.small import MLP
from cnnjax.runs import RunError
from cnnjax.runs.seal import sealed
from cnnjax.training import shared

Arrays = tuple[np.ndarray, np.ndarray]
CONFIG = cj.TrainingConfig(epochs=2, batch_size=16, monitor=None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `fit` on a file; take a copy to change anything."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (64, 12, 12, 1), dtype=np.uint8)
    np.savez(folder / "noise.npz", images=images, labels=np.arange(64) % 3)
    data = cj.data.load(folder / "noise.npz", validation=0.25, train_examples=40, seed=3)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,), seed=7)
    config = cj.TrainingConfig(epochs=2, batch_size=16, seed=7, augment=cj.augment.Augment(2, 1))
    cj.fit(model, data, config, directory=folder / "run", verbose=False)
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(sealed(content) if file.name == "run.json" else json.dumps(content))


@pytest.mark.thorough
def test_the_command_succeeds_on_a_run_of_another_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run, _ = quickstart_run(tmp_path_factory)
    out = python("-m", "cnnjax", "reproduce", run).stdout
    facts = json.loads((run / "run.json").read_text())
    expected = f"the same to the bit: parameters {facts['parameter_hash'][:16]}..., 4 metrics, 2"
    assert expected in out


def test_a_run_of_fit_on_a_file_is_the_same(finished: Path, tmp_path: Path) -> None:
    found = cj.reproduce(finished, out=tmp_path / "again", verbose=False)
    assert found.same
    assert (found.results, found.circumstances) == ([], [])
    assert found.run.directory == tmp_path / "again"
    facts = json.loads((tmp_path / "again" / "run.json").read_text())
    assert facts["reproduces"] == str(finished)


def test_what_belongs_to_files_needs_none_to_reproduce(run: Path) -> None:
    files = {"checkpoint_every": 2, "keep": 3}
    edit(run / "config.json", lambda c: c["training"].update(files))
    assert cj.reproduce(run, verbose=False).results == []


@pytest.mark.thorough
def test_another_seed_is_named_and_the_status_is_1(run: Path) -> None:
    edit(run / "config.json", lambda c: c["training"].update(seed=8))
    out = python("-m", "cnnjax", "reproduce", run, status=1).stdout
    for text in ("not the same:", "parameters: ", "history from epoch 1 on: "):
        assert text in out
    for text in ("config.json is not the one", "seed: 7 then, 8 in config.json now"):
        assert text in out


def test_settings_that_cannot_be_are_one_sentence_that_names_their_file(run: Path) -> None:
    edit(run / "config.json", lambda c: c["training"].update(warmup=0.5))
    message = r"config\.json holds no training that there can be: warmup=0\.5 belongs to"
    with pytest.raises(cj.runs.RunError, match=message):
        cj.reproduce(run, verbose=False)


def test_a_model_that_does_not_take_the_data_is_named_with_its_file(run: Path) -> None:
    file = run / "model.json"
    spec = json.loads(file.read_text())
    file.write_text(json.dumps({**spec, "input_shape": [32, 12, 1]}))
    message = r"cannot be trained again as it was \(.*the model mlp takes \[32.*model\.json is not"
    with pytest.raises(cj.runs.RunError, match=message):
        cj.reproduce(run, verbose=False)


def test_other_data_are_named(run: Path, finished: Path, tmp_path: Path) -> None:
    with np.load(finished.parent / "noise.npz") as file:
        images, labels = file["images"].copy(), file["labels"]
    images[:, 0] += 1
    np.savez(tmp_path / "other.npz", images=images, labels=labels)
    edit(run / "run.json", lambda r: r["source"].update(data=str(tmp_path / "other.npz")))
    found = cj.reproduce(run, verbose=False)
    assert not found.same
    assert any(line.startswith("data train fingerprint: ") for line in found.circumstances)


def test_changed_code_of_the_model_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MLP.__call__
    shared.forget()  # compiled steps know a class by its name, not by its code
    monkeypatch.setattr(MLP, "__call__", lambda *a, **k: original(*a, **k) * jnp.float32(1.001))
    edit(run / "run.json", lambda r: r["code"].update(sources="0123456789abcdef"))
    edit(run / "run.json", lambda r: r["identity"]["environment"].update(cnnjax="0123456789abcdef"))
    try:
        found = cj.reproduce(run, verbose=False)
    finally:
        shared.forget()
    assert not found.same
    assert any(
        line.startswith("code sources: 0123456789abcdef then") for line in found.circumstances
    )
    assert any("a step could not be compared" in line for line in found.circumstances)
    assert "parameters: " in str(found)


@pytest.mark.thorough
def test_an_initialiser_that_changed_is_named(run: Path) -> None:
    edit(run / "model.json", lambda m: m["arguments"].update(units=[17]))
    with pytest.raises(RunError, match=r"module mlp differs: units\[0\]=16 then, 17 now: "):
        cj.reproduce(run, verbose=False)
    found = cj.reproduce(run, verbose=False, allow_changed=("module",))
    assert not found.same
    assert any(line.startswith("initial parameters: ") for line in found.circumstances)


def test_another_version_alone_does_not_make_it_differ(run: Path) -> None:
    edit(run / "run.json", lambda r: r["versions"].update(optax="0.0.1"))
    found = cj.reproduce(run, verbose=False)
    assert found.same
    text = str(found)
    assert text.startswith("the same to the bit: ")
    assert f"although these differ:\n  versions optax: 0.0.1 then, {optax.__version__} now" in text


def test_a_record_of_before_there_was_a_setting_differs_in_none(run: Path) -> None:
    added = ("rate_factors", "layer_decay", "clip_norm", "log_gradients")
    edit(run / "config.json", lambda c: [c["training"].pop(name) for name in added])
    config_hash = text_hash((run / "config.json").read_text())
    edit(run / "run.json", lambda r: r.update(config_hash=config_hash))
    found = cj.reproduce(run, verbose=False)
    assert (found.results, found.circumstances) == ([], [])


def test_a_tampered_metric_is_named(run: Path) -> None:
    edit(run / "run.json", lambda r: r["metrics"].update(val_accuracy=1.0))
    found = cj.reproduce(run, verbose=False)
    (line,) = found.results
    assert line.startswith("val_accuracy: 1.0 then, ")
    assert "no difference of settings, code, versions, machine or data is known" in str(found)


def square_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.sum((logits - jax.nn.one_hot(labels, 3)) ** 2, axis=-1)


def flip(key: jax.Array, image: jax.Array) -> jax.Array:
    return image[:, ::-1]


def test_what_a_record_cannot_hold_is_asked_for_by_name(squares: Arrays, tmp_path: Path) -> None:
    given = {
        "data": cj.data.Splits(cj.data.from_arrays(*squares)),
        "model": cj.Model.from_module(Convnet(), (12, 12, 1), seed=3),
        "loss": partial(square_loss),  # which no import finds again
        "optimizer": optax.sgd(0.01),
        "augment": partial(flip),
    }
    config = cj.TrainingConfig(epochs=1, batch_size=16, augment=given["augment"], monitor=None)
    cj.fit(
        given["model"], given["data"], config, given["loss"], given["optimizer"],
        directory=tmp_path / "run", verbose=False,
    )  # fmt: skip
    for name in given:
        rest = {k: v for k, v in given.items() if k != name}
        with pytest.raises(
            RunError, match=rf"as its {name}, .*cj\.reproduce\(run, {name}=\.\.\.\)"
        ):
            cj.reproduce(tmp_path / "run", **rest, verbose=False)
    assert cj.reproduce(tmp_path / "run", **given, verbose=False).same


def rising(step: jax.Array) -> jax.Array:
    return 1e-3 * (1 + step)


def first_half(seed: int, epoch: int, data: cj.data.Dataset) -> np.ndarray:
    return np.arange(len(data) // 2)


def margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return logits.max(axis=-1) - logits.min(axis=-1)


@pytest.fixture(scope="module")
def of_functions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    """A run of functions at the top of this module."""
    rng = np.random.default_rng(1)
    arrays = rng.integers(0, 255, (32, 8, 8, 1), dtype=np.uint8), np.arange(32) % 3
    config = cj.TrainingConfig(
        epochs=1, batch_size=16, augment=flip, schedule=rising, sampler=first_half, monitor=None
    )
    model = cj.create_model("mlp", input_shape=(8, 8, 1), num_classes=3, units=())
    directory = tmp_path_factory.mktemp("functions") / "run"
    cj.fit(
        model, arrays, config, square_loss, directory=directory, metrics={"margin": margin},
        verbose=False,
    )  # fmt: skip
    return directory, arrays


def test_functions_of_a_module_are_imported_from_where_they_were(
    of_functions: tuple[Path, Arrays],
) -> None:
    run, data = of_functions
    paths = json.loads((run / "run.json").read_text())["import_paths"]
    assert paths.keys() == {"loss", "augment", "schedule", "sampler", "metrics"}
    assert cj.reproduce(run, data, verbose=False).same


def spread_of(power: float, logits: jax.Array, labels: jax.Array) -> jax.Array:
    return margin(logits, labels) ** power


SQUARED = functools.partial(spread_of, 2.0)


def some(outputs: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    return batch["mask"].sum()


SOME = cj.metrics.Metric(float, some, float, mode=None)
MEASURES = {
    "squared": SQUARED,
    "some": SOME,
    "f1": cj.metrics.f1(),
    "micro": cj.metrics.f1(average="micro"),
    "two": cj.metrics.top_k(2),
}


def test_metrics_that_are_shipped_or_stand_at_the_top_of_a_module_are_found_again(
    of_functions: tuple[Path, Arrays], tmp_path: Path
) -> None:
    data = of_functions[1]
    model = cj.create_model("mlp", input_shape=(8, 8, 1), num_classes=3, units=())
    config = cj.TrainingConfig(epochs=1, batch_size=16, monitor=None)
    for name, measures in (("known", MEASURES), ("own", {"own": lambda z, y: z[:, 0]})):
        cj.fit(model, data, config, directory=tmp_path / name, metrics=measures, verbose=False)
    paths = json.loads((tmp_path / "known" / "run.json").read_text())["import_paths"]["metrics"]
    assert paths["micro"] == "f1(average='micro')"
    assert paths["two"] == "top_k(k=2)"
    assert paths["squared"].endswith("test_reproduction:SQUARED")
    again = cj.reproduce(tmp_path / "known", data, verbose=False)
    assert again.same
    assert {"squared", "some", "f1", "micro", "two"} <= again.run.history.keys()
    with pytest.raises(
        RunError,
        match=r"was trained with own as its metrics, which a record cannot hold: give it in "
        r"Python, cj\.reproduce\(run, metrics=\.\.\.\)$",
    ):
        cj.reproduce(tmp_path / "own", data, verbose=False)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["loss", "metrics", "augment", "schedule", "sampler"])
def test_a_function_without_a_path_is_asked_for_and_one_that_moved_is_named(
    of_functions: tuple[Path, Arrays], tmp_path: Path, name: str
) -> None:
    run, data = Path(shutil.copytree(of_functions[0], tmp_path / "run")), of_functions[1]
    moved: object = "test_reproduction:moved"
    moved = {"margin": moved} if name == "metrics" else moved
    edit(run / "run.json", lambda r: r["import_paths"].update({name: moved}))
    with pytest.raises(RunError, match=rf"test_reproduction:moved as its {name}, .*{name}=\.\.\."):
        cj.reproduce(run, data, verbose=False)
    edit(run / "run.json", lambda r: r["import_paths"].pop(name))  # as in records of before
    with pytest.raises(RunError, match=rf"as its {name}, which a record cannot hold"):
        cj.reproduce(run, data, verbose=False)


@pytest.mark.thorough
def test_weights_of_a_file_are_asked_for(squares: Arrays, tmp_path: Path) -> None:
    arguments = {"input_shape": (12, 12, 1), "num_classes": 3, "units": (16,)}
    begun = cj.create_model("mlp", seed=9, **arguments)
    file = cj.export_weights(begun, tmp_path / "begun.npz")
    np.savez(tmp_path / "data.npz", images=squares[0], labels=squares[1])
    data = cj.data.load(tmp_path / "data.npz")
    model = cj.create_model("mlp", weights=file, **arguments)
    cj.fit(model, data, CONFIG, directory=tmp_path / "run", verbose=False)
    with pytest.raises(RunError, match=r"with mlp with the weights of begun\.npz as its model"):
        cj.reproduce(tmp_path / "run", verbose=False)
    assert cj.reproduce(tmp_path / "run", model=model, verbose=False).same


@dataclass(frozen=True)
class Shift:
    """An augmentation of one's own with settings, one of which has a name of ours."""

    width_shift: int = 1

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return jnp.roll(image, self.width_shift, axis=1)


@pytest.mark.thorough
def test_arrays_and_an_augmentation_with_settings_are_given_again(
    squares: Arrays, tmp_path: Path
) -> None:
    config = cj.TrainingConfig(epochs=1, batch_size=16, augment=Shift(2))
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
    cj.fit(model, squares, config, directory=tmp_path / "run", verbose=False)
    with pytest.raises(RunError, match=r"Shift\(width_shift=2\) as its augment"):
        cj.reproduce(tmp_path / "run", data=squares, verbose=False)
    assert cj.reproduce(tmp_path / "run", squares, augment=Shift(2), verbose=False).same
    with pytest.raises(RunError, match=r"augment Shift differs: width_shift=2 then, 3 now: "):
        cj.reproduce(tmp_path / "run", squares, augment=Shift(3), verbose=False)
    other = cj.reproduce(
        tmp_path / "run", squares, augment=Shift(3), allow_changed=("augment",), verbose=False
    )
    assert any("settings augment: " in line for line in other.circumstances)
    assert not other.same


@pytest.mark.thorough
def test_settings_that_differ_are_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"loss": square_loss, "optimizer": optax.sgd(0.1)}
    with pytest.raises(RunError, match=r"square_loss differs: none was given then; the optimizer"):
        cj.reproduce(finished, **given)
    found = cj.reproduce(finished, **given, allow_changed=("loss", "optimizer"))
    told = " ".join(found.circumstances)
    assert "settings optimizer: rmsprop then, given by the caller now" in told
    assert "loss: cross-entropy then, test_reproduction.square_loss now" in told
    # Before the training starts, so that nobody waits for what is known.
    out = capsys.readouterr().out
    assert out.index("loss: cross-entropy then") < out.index("epoch 1/2")
    with cj.nn.conv_engine("lax"):
        found = cj.reproduce(finished, verbose=False)
    assert found.circumstances == ["conv_engine: auto then, lax now"]


def test_a_run_that_was_resumed_elsewhere_says_so(run: Path) -> None:
    def elsewhere(record: dict) -> None:
        processes = {k: record[k] for k in ("versions", "machine", "code")}
        record["resumed"] = [{**processes, "machine": {**processes["machine"], "cores": 99}}]

    edit(run / "run.json", elsewhere)
    found = cj.reproduce(run, verbose=False)
    cores = json.loads((run / "run.json").read_text())["machine"]["cores"]
    expected = f"the run was resumed elsewhere: machine cores: {cores} then, 99 now"
    assert found.circumstances == [expected]


def test_data_that_moved_may_be_given(run: Path, finished: Path, tmp_path: Path) -> None:
    edit(run / "run.json", lambda r: r["source"].update(data=str(tmp_path / "gone.npz")))
    with pytest.raises(RunError, match=r"gone\.npz does not exist.*cj\.reproduce\(run, data="):
        cj.reproduce(run, verbose=False)
    data = cj.data.load(finished.parent / "noise.npz", validation=0.25, train_examples=40, seed=3)
    assert cj.reproduce(run, data, verbose=False).same


@pytest.mark.parametrize("name", ["source", "data", "versions", "initial_hash", "seed"])
def test_a_record_that_lacks_something_is_called_damaged(run: Path, name: str) -> None:
    edit(run / "run.json", lambda r: r.pop(name))
    with pytest.raises(RunError, match=rf"record of {run} is damaged, .* KeyError: '{name}'"):
        cj.reproduce(run, verbose=False)


def test_a_run_that_is_not_finished_has_nothing_to_compare_with(run: Path) -> None:
    edit(run / "run.json", lambda r: r.update(status="interrupted"))
    with pytest.raises(RunError, match=r"not finished \(status: interrupted\).*--resume"):
        cj.reproduce(run, verbose=False)


def test_what_is_no_run_is_one_line(cnnjax: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    _, err = cnnjax("reproduce", tmp_path / "nothing", status=1)
    assert err == f"error: run directory {tmp_path / 'nothing'} does not exist\n"
