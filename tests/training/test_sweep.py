"""Many trainings at once are each what they are alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.training.sweep import _folder, _folders

CONFIG = cj.TrainingConfig(epochs=2, batch_size=32, optimizer="adam", monitor=None)
net = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


@pytest.fixture
def splits(squares: tuple[np.ndarray, np.ndarray]) -> cj.data.Splits:
    images, labels = squares
    test = cj.data.from_arrays(images[:24], labels[:24])
    return cj.data.Splits(cj.data.from_arrays(images, labels), test=test)


def test_every_run_ends_in_the_bits_of_its_own(splits: cj.data.Splits) -> None:
    found = cj.sweep(net, splits, CONFIG, seeds=(3, 5), learning_rate=(1e-3, 1e-2), verbose=False)
    assert found.settings == ({"learning_rate": 1e-3}, {"learning_rate": 1e-2})
    for settings, runs in zip(found.settings, found.runs, strict=True):
        for seed, run in zip((3, 5), runs, strict=True):
            config = replace(CONFIG, **settings, seed=seed)
            alone = cj.fit(net(seed=seed), splits, config, verbose=False)
            assert run.parameter_hash == alone.parameter_hash
    assert found.values("test_loss").shape == (2, 2)
    assert found.values("test_loss")[1, 0] == found.runs[1][0].metrics["test_loss"]
    assert found.history("loss").shape == (2, 2, 2)
    assert found.values("loss").tolist() == found.history("loss")[:, :, -1].tolist()


@pytest.mark.thorough
def test_settings_go_where_they_belong_and_all_are_combined(splits: cj.data.Splits) -> None:
    asked: list[dict[str, Any]] = []

    def make(seed: int, **arguments: Any) -> cj.Model:
        asked.append({"seed": seed, **arguments})
        return net(seed=seed, **arguments)

    found = cj.sweep(
        make, splits, CONFIG, seeds=1, weight_decay=(0.0, 0.1), dropout=(0.0, 0.5), verbose=False
    )
    assert [s["dropout"] for s in found.settings] == [0.0, 0.5, 0.0, 0.5]
    assert asked == [{"seed": 0, "dropout": d} for d in (0.0, 0.5, 0.0, 0.5)]
    hashes = {runs[0].parameter_hash for runs in found.runs}
    assert len(hashes) == 4


def test_the_best_setting_and_the_table(splits: cj.data.Splits) -> None:
    found = cj.sweep(net, splits, CONFIG, seeds=2, learning_rate=(1e-6, 1e-2), verbose=False)
    assert found.best("test_loss") == {"learning_rate": 1e-2}
    assert found.best("test_accuracy") == {"learning_rate": 1e-2}
    lines = str(found).splitlines()
    losses = found.values("test_accuracy")[1]
    wanted = f"{losses.mean():.4f} ± {losses.std(ddof=1):.4f}"
    assert "learning_rate=0.01" in lines[2]
    assert lines[2].endswith(wanted)
    assert lines[-1] == "mean ± standard deviation over 2 seeds"
    assert repr(found) == str(found)
    assert found._repr_html_().count("<tr>") == 3
    assert wanted in found._repr_html_()


@pytest.mark.thorough
def test_run_directories_and_going_on(
    splits: cj.data.Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"seeds": 2, "frozen": ((), ("dense1",)), "directory": tmp_path}
    first = cj.sweep(net, splits, CONFIG, **arguments)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("frozen=() seed 0:  test ")
    assert len(said) == 4
    directory = tmp_path / "frozen=_dense1_,_" / "seed1"
    facts = json.loads((directory / "run.json").read_text())
    assert (facts["seed"], facts["status"]) == (1, "finished")
    shutil.rmtree(directory)
    again = cj.sweep(net, splits, CONFIG, **arguments, resume=True, verbose=False)
    assert np.array_equal(again.values("test_loss"), first.values("test_loss"))
    with pytest.raises(cj.runs.RunError, match="resume"):
        cj.sweep(net, splits, CONFIG, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, r"seeds must be a whole number >= 1, got 0"),
        ({"seeds": 2.0}, r"seeds must be a whole number >= 1, got 2.0"),
        ({"seeds": "2"}, r"seeds must be a whole number >= 1, got '2'"),
        ({"seeds": (0, 1.5)}, r"seeds must be a whole number >= 0, got 1.5"),
        ({"seeds": ()}, r"seeds must be a number >= 1, or different seeds, got \(\)"),
        ({"learning_rate": np.ones((1, 2))}, r"learning_rate must be a list of values to try"),
        ({"learning_rate": np.ones(0)}, r"learning_rate must be a list of values to try"),
        ({"seeds": (1, 1)}, r"seeds must be .*, got \(1, 1\)"),
        ({"learning_rate": ()}, r"learning_rate must be a list of values to try, got \(\)"),
        ({"learning_rate": 0.1}, r"learning_rate must be a list of values to try, got 0.1"),
        ({"optimizer": "adam"}, r"optimizer must be a list of values to try, got 'adam'"),
        ({"seed": (1, 2)}, "seed is no list of a sweep: give seeds="),
        ({"keep": (1, 2)}, "keep is no list of a sweep: give keep= of config"),
        ({"dropuot": (0.1,)}, r"model 'mlp' has no argument 'dropuot'. Did you mean 'dropout'"),
    ],
)
def test_what_cannot_be_swept(
    splits: cj.data.Splits, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cj.sweep(net, splits, CONFIG, **{"seeds": 1, **arguments}, verbose=False)


def test_an_unknown_metric_offers_the_nearest(splits: cj.data.Splits) -> None:
    found = cj.sweep(net, splits, replace(CONFIG, epochs=1), seeds=1, verbose=False)
    with pytest.raises(ValueError, match=r"no metric 'test_acuracy'.*'test_accuracy'"):
        found.values("test_acuracy")
    with pytest.raises(ValueError, match=r"no metric 'val_loss'"):
        found.history("val_loss")


def test_a_run_that_diverges_is_a_line_and_the_others_go_on(
    splits: cj.data.Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, optimizer="sgd")
    found = cj.sweep(net, splits, config, seeds=2, learning_rate=(1e30, 1e-2))
    assert found.runs[0] == (None, None)
    assert all(found.runs[1])
    lines = capsys.readouterr().out.splitlines()
    assert "learning_rate=1e+30 seed 0:" in lines[0]
    assert "NaN" in lines[0] or "inf" in lines[0] or "nan" in lines[0]
    assert np.isnan(found.values("test_loss")).tolist() == [[True, True], [False, False]]
    assert np.isnan(found.history("loss"))[:, :, 0].tolist() == [[True, True], [False, False]]
    assert found.best("test_loss") == {"learning_rate": 1e-2}
    assert "diverged" in str(found).splitlines()[1]
    with pytest.raises(cj.training.NonFiniteLoss):
        cj.sweep(net, splits, config, seeds=1, learning_rate=(1e30,), verbose=False)


def test_names_of_directories_are_short_and_those_of_the_next_process() -> None:
    def own(key: Any, image: Any) -> Any:
        return image

    other = cj.augment.Augment(rotation=10)
    settings = [{"augment": other, "weight_decay": 0.1}, {"augment": own}, {"augment": other}]
    names = [_folder(one) for one in settings]
    assert len(set(names)) == 3
    assert max(map(len, names)) < 150
    assert "0x" not in names[1]
    assert _folder({"learning_rate": 1e-3}) == "learning_rate=0.001"
    assert _folders(settings) == names


def test_folders_that_would_have_one_name_have_a_hash_each() -> None:
    alike = [{"frozen": ("dense*",)}, {"frozen": ("dense?",)}, {"frozen": ("conv*",)}]
    first, second, other = _folders(alike)
    assert (first, second) == ("frozen=_dense_,_-fc1ff8b13475", "frozen=_dense_,_-10e2ddc178c3")
    assert other == "frozen=_conv_,_"
    assert _folders(alike[::-1]) == [other, second, first]
    # One and the same setting twice is no clash.
    assert _folders(alike[:1] * 2) == ["frozen=_dense_,_"] * 2
    same = {"name": ("a,b=c", "a"), "b": ("d", "c,b=d")}
    pair = [{k: v[i] for k, v in same.items()} for i in (0, 1)]
    assert pair == [{"name": "a,b=c", "b": "d"}, {"name": "a", "b": "c,b=d"}]
    assert len(set(_folders(pair))) == 2
    assert len(set(_folders([{"dropout": 0.5}, {"dropout": "0.5"}]))) == 2
    assert len(set(_folders([{"augment": json.dumps}, {"augment": other_module()}]))) == 2


def other_module() -> Any:
    """Another function that is called dumps."""

    def dumps() -> None: ...

    dumps.__qualname__ = "dumps"
    return dumps


@dataclass(frozen=True)
class Darker:
    factor: float

    def __call__(self, key: Any, image: Any) -> Any:
        return image * self.factor


def darker(factor: float) -> Any:
    return lambda key, image: image * factor


@pytest.mark.thorough
def test_settings_whose_names_are_alike_have_runs_of_their_own(
    splits: cj.data.Splits, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    arguments: dict[str, Any] = {"frozen": (("dense*",), ("dense?",), ("den*",)), "seeds": 1}
    plain = cj.sweep(net, splits, config, **arguments, verbose=False)
    for resume in (False, True):
        kept = cj.sweep(
            net, splits, config, **arguments, directory=tmp_path, resume=resume, verbose=False
        )
        assert np.array_equal(kept.values("test_loss"), plain.values("test_loss"))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.thorough
def test_functions_of_one_name_are_refused_where_runs_are_kept(
    splits: cj.data.Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, epochs=1)
    functions = (darker(1.0), darker(0.0))
    with pytest.raises(ValueError, match=r"augment has different values that are all called .*def"):
        cj.sweep(net, splits, config, seeds=1, augment=functions, directory=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"augment has different values"):
        _folders([{"augment": (one,), "frozen": ()} for one in functions])
    assert (capsys.readouterr().out, list(tmp_path.iterdir())) == ("", [])
    found = cj.sweep(net, splits, config, seeds=1, augment=functions, verbose=False)
    named = (Darker(1.0), Darker(0.0))
    kept = cj.sweep(net, splits, config, seeds=1, augment=named, directory=tmp_path, verbose=False)
    assert np.array_equal(kept.values("test_loss"), found.values("test_loss"))
    assert kept.values("test_loss")[0] != kept.values("test_loss")[1]


def test_a_partial_with_other_arguments_is_another_run(
    splits: cj.data.Splits, tmp_path: Path
) -> None:
    def dark(key: Any, image: Any, k: float) -> Any:
        return image * k

    config = replace(CONFIG, epochs=1, resume=True)
    before = replace(config, augment=partial(dark, k=1.0))
    cj.fit(net(seed=0), splits, before, directory=tmp_path, verbose=False)
    after = replace(config, augment=partial(dark, k=0.0))
    with pytest.raises(cj.runs.RunError, match=r"augment dark differs: k=1\.0 then, 0\.0 now"):
        cj.fit(net(seed=0), splits, after, directory=tmp_path, verbose=False)


def test_numpy_numbers_and_arrays_are_seeds_and_lists(splits: cj.data.Splits) -> None:
    config, rates = replace(CONFIG, epochs=1), np.logspace(-3, -2, 2)
    one = cj.sweep(net, splits, config, seeds=np.int64(2), learning_rate=rates, verbose=False)
    other = cj.sweep(net, splits, config, seeds=np.arange(2), learning_rate=rates, verbose=False)
    assert one.seeds == other.seeds == (0, 1)
    assert one.settings == ({"learning_rate": 1e-3}, {"learning_rate": 1e-2})
    assert {type(value) for s in one.settings for value in s.values()} == {float}
    assert np.array_equal(one.values("loss"), other.values("loss"))


class Seen(cj.training.Callback):
    """Remembers the losses of a run and stops it after its first epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_epoch(self, moment: cj.training.Moment) -> None:
        self.losses.append(moment.record["loss"])
        moment.stop()


def halved(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    losses, aux = cj.training.supervised(cj.metrics.cross_entropy)(
        functions, params, state, batch, key
    )
    return 0.5 * losses, aux


def test_an_objective_and_new_callbacks_and_loggers_are_those_of_every_run(
    splits: cj.data.Splits, tmp_path: Path
) -> None:
    seen: list[Seen] = []

    def callbacks() -> list[cj.training.Callback]:
        seen.append(Seen())
        return seen[-1:]

    given: dict[str, Any] = {"objective": halved, "callbacks": callbacks}
    given["loggers"] = lambda: [cj.training.loggers.CSV()]
    found = cj.sweep(net, splits, CONFIG, seeds=2, directory=tmp_path, verbose=False, **given)
    for seed, (run, one) in enumerate(zip(found.runs[0], seen, strict=True)):
        alone = cj.fit(
            net(seed=seed), splits, replace(CONFIG, seed=seed), objective=halved,
            callbacks=[Seen()], verbose=False,
        )  # fmt: skip
        assert run.parameter_hash == alone.parameter_hash
        assert one.losses == alone.history["loss"].tolist()
        assert run.directory is not None
        assert (run.directory / "metrics.csv").exists()
        recorded = json.loads((run.directory / "config.json").read_text())["objective"]
        assert recorded.endswith("test_sweep:halved")
    again = cj.sweep(
        net, splits, CONFIG, seeds=2, directory=tmp_path, resume=True, verbose=False, **given
    )
    assert [r.parameter_hash for r in again.runs[0]] == [r.parameter_hash for r in found.runs[0]]
    assert [one.losses for one in seen[2:]] == [[], []]  # stopped runs stay so


def test_a_step_of_ones_own_is_swept(splits: cj.data.Splits) -> None:
    def update(value: Any, batch: Any, key: Any) -> Any:
        return value, {"loss": 1.0}

    step = cj.training.Step(lambda model, key: model.variables, update, lambda value: value)
    config = cj.TrainingConfig(epochs=1, batch_size=32, monitor=None)
    found = cj.sweep(net, splits, config, seeds=2, step=step, verbose=False)
    assert found.values("loss").tolist() == [[1.0, 1.0]]
    with pytest.raises(ValueError, match=r"learning_rate=0\.1 would be ignored, since step="):
        cj.sweep(net, splits, config, seeds=1, step=step, learning_rate=[0.1], verbose=False)


@pytest.mark.parametrize("name", ["callbacks", "loggers"])
def test_observers_that_would_go_from_run_to_run_are_refused(
    splits: cj.data.Splits, name: str
) -> None:
    one = Seen() if name == "callbacks" else cj.training.loggers.CSV("unused.csv")
    with pytest.raises(ValueError, match=rf"^{name} of a sweep must be a function that makes"):
        cj.sweep(net, splits, CONFIG, seeds=2, verbose=False, **{name: [one]})


def test_a_callback_of_a_run_before_is_refused(splits: cj.data.Splits) -> None:
    kept = Seen()
    with pytest.raises(ValueError, match=r"^callbacks of a sweep made the Seen of a run before"):
        cj.sweep(net, splits, CONFIG, seeds=2, verbose=False, callbacks=lambda: [kept])
