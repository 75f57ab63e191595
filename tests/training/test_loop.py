"""`fit`: both forms of an epoch, reproducibility, selection of the best model, errors."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import python, start
from modules import Convnet

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.core import trees
from cnnjax.data import Dataset, Loader, Splits, from_arrays
from cnnjax.training import NonFiniteLoss, Run, epoch_bar

Arrays = tuple[np.ndarray, np.ndarray]
# 96 squares in batches of 8: 12 steps an epoch.
QUICK = TrainingConfig(epochs=2, batch_size=8, monitor=None)


def mlp(**arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (16,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), **arguments)


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 2, "batch_size": 8, "monitor": None, **changes})


def fit(
    data: Any, config: TrainingConfig = QUICK, model: cj.Model | None = None, **more: Any
) -> Run:
    return cj.fit(model or mlp(), data, config, **{"verbose": False, **more})


def splits(data: Arrays) -> Splits:
    return Splits(from_arrays(*data, name="squares")).with_validation(0.25)


def rises_after(epoch: int, steps: int) -> optax.GradientTransformation:
    """Descends during the first epochs and climbs thereafter, so that the model gets worse."""
    return optax.sgd(lambda count: jnp.where(count < epoch * steps, 0.05, -0.05))


def breaks_at(update: int) -> optax.GradientTransformation:
    """The update of that number, counted from 1, makes every parameter NaN."""
    return optax.sgd(lambda count: jnp.where(count == update - 1, jnp.nan, 0.01))


def test_it_learns(squares: Arrays) -> None:
    run = fit(splits(squares), settings(epochs=5, learning_rate=3e-3))
    assert run.metrics["val_accuracy"] == 1.0
    assert run.history["loss"][-1] < 0.2 * run.history["loss"][0]
    predicted = cj.predict(run.model, squares[0]).argmax(axis=1)
    np.testing.assert_array_equal(predicted, squares[1])


def test_the_history_has_an_array_an_epoch_for_every_metric(squares: Arrays) -> None:
    run = fit(splits(squares), settings(epochs=3, schedule="cosine"))
    assert set(run.history) == {
        *("epoch", "step", "loss", "accuracy", "learning_rate", "val_loss", "val_accuracy"),
        *("seconds", "images_per_second", "waiting"),
    }
    assert {(v.shape, v.dtype) for v in run.history.values()} == {((3,), np.dtype("float64"))}
    assert run.history["epoch"].tolist() == [1, 2, 3]
    assert run.history["step"].tolist() == [9, 18, 27]
    # Of the last step of each epoch: half a cosine over 27 steps.
    by_hand = [1e-3 * (1 + math.cos(math.pi * t / 27)) / 2 for t in (8, 17, 26)]
    np.testing.assert_allclose(run.history["learning_rate"], by_hand, rtol=1e-5)
    assert run.seconds > 0
    assert run.directory is None


def test_the_history_is_the_mean_over_the_examples_of_the_epoch(squares: Arrays) -> None:
    still = optax.scale(0.0)
    part = (squares[0][:91], squares[1][:91])  # the last batch holds three examples
    run = fit(part, optimizer=still)
    means = cj.evaluate(mlp(), from_arrays(*part))
    np.testing.assert_allclose(run.history["loss"], means["loss"], rtol=1e-6)
    np.testing.assert_allclose(run.history["accuracy"], means["accuracy"], rtol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [5, 12, 100])
def test_loop_and_scan_agree_to_rounding(squares: Arrays, chunk: int) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    part = Splits(from_arrays(squares[0][:91], squares[1][:91]), from_arrays(*squares))
    config = dict(augment=Augment(width_shift=1), average=0.5, monitor="loss")
    loop = fit(part, settings(**config, steps_per_dispatch=1), model)
    scan = fit(part, settings(**config, steps_per_dispatch=chunk), model)
    for key in loop.history.keys() - {"seconds", "images_per_second", "waiting"}:
        np.testing.assert_allclose(scan.history[key], loop.history[key], rtol=1e-4, err_msg=key)
    ours, theirs = (trees.flatten(run.model.variables) for run in (scan, loop))
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-3, atol=1e-5, err_msg=path)
    assert scan.best_epoch == loop.best_epoch


@pytest.mark.thorough
def test_each_form_has_the_same_bits_every_time(squares: Arrays) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    for chunk in (1, 5):
        config = settings(steps_per_dispatch=chunk)
        first, second = (fit(squares, config, model) for _ in range(2))
        assert first.parameter_hash == second.parameter_hash
        assert first.history["loss"].tolist() == second.history["loss"].tolist()


TWO_PROCESSES = """
import sys, numpy as np, cnnjax as cj
cj.configure_runtime()
with np.load(sys.argv[1]) as file:
    data = cj.data.Splits(cj.data.from_arrays(file["x"], file["y"])).with_validation(0.25)
for seed in map(int, sys.argv[2:]):
    config = cj.TrainingConfig(epochs=2, batch_size=8, seed=seed, average=0.9,
                               augment=cj.augment.Augment(width_shift=2, horizontal_flip=True))
    model = cj.create_model("cifar_deep", input_shape=(12, 12, 1), num_classes=3, seed=seed)
    run = cj.fit(model, data, config, verbose=False)
    print(seed, run.parameter_hash, repr(run.history["loss"].tolist()))
heavy = {"tensorflow", "tensorflow_datasets", "sklearn", "matplotlib", "keras", "h5py", "torch"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.thorough
def test_two_processes_with_one_seed_end_in_the_same_bits(squares: Arrays, tmp_path: Path) -> None:
    data = tmp_path / "squares.npz"
    np.savez(data, x=squares[0], y=squares[1])
    first = start("-c", TWO_PROCESSES, data, "0", "1", PYTHONHASHSEED="1")
    second = python("-c", TWO_PROCESSES, data, "0", PYTHONHASHSEED="2").stdout.splitlines()
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    zero, one, heavy = out.splitlines()
    assert second == [zero, heavy]
    assert one.split()[1] != zero.split()[1]
    assert heavy == "heavy: []"  # training loads no package for data sets, files or figures


def test_another_seed_of_the_training_alone_differs(squares: Arrays) -> None:
    runs = [fit(squares, settings(seed=seed)) for seed in (0, 1)]
    assert runs[0].parameter_hash != runs[1].parameter_hash


def test_the_parameter_hash_is_that_of_the_models_variables(squares: Arrays) -> None:
    run = fit(squares)
    assert run.parameter_hash == trees.tree_hash(run.model.variables)


def test_the_model_given_is_not_changed_and_can_be_trained_again(squares: Arrays) -> None:
    model = mlp()
    before = trees.tree_hash(model.variables)
    first, second = fit(squares, model=model), fit(squares, model=model)
    assert trees.tree_hash(model.variables) == before
    assert first.parameter_hash == second.parameter_hash != before


def test_data_may_be_arrays_a_dataset_or_splits(squares: Arrays) -> None:
    forms = [squares, from_arrays(*squares), Splits(from_arrays(*squares))]
    assert len({fit(form).parameter_hash for form in forms}) == 1


def test_data_of_another_form_is_refused(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"data must be Splits, a Dataset or .* got list"):
        fit(list(squares))


def test_test_data_is_scored_with_the_resulting_model(squares: Arrays) -> None:
    test = from_arrays(squares[0][:30], squares[1][:30])
    run = fit(Splits(from_arrays(*squares), None, test))
    assert set(run.metrics) == {"test_loss", "test_accuracy"}
    wanted = cj.evaluate(run.model, test)
    assert run.metrics["test_loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert run.metrics["test_accuracy"] == wanted["accuracy"]


def test_the_best_model_is_the_result_and_what_is_loaded(squares: Arrays, tmp_path: Path) -> None:
    config = settings(epochs=5, monitor="loss")
    run = fit(splits(squares), config, optimizer=rises_after(2, 9), directory=tmp_path / "run")
    losses = run.history["val_loss"]
    assert run.best_epoch == int(np.argmin(losses)) + 1 < 5
    assert losses[-1] > losses.min()
    assert run.metrics["val_loss"] == pytest.approx(losses.min(), rel=1e-6)
    assert trees.tree_hash(cj.load(tmp_path / "run").variables) == run.parameter_hash


def test_the_best_model_is_the_same_without_a_directory(squares: Arrays, tmp_path: Path) -> None:
    config = settings(epochs=4, monitor="loss")
    kept, loose = (
        fit(splits(squares), config, optimizer=rises_after(2, 9), directory=where)
        for where in (tmp_path / "run", None)
    )
    assert (kept.parameter_hash, kept.best_epoch) == (loose.parameter_hash, loose.best_epoch)


def test_accuracy_may_be_monitored_and_the_first_of_equal_ones_wins(squares: Arrays) -> None:
    config = settings(epochs=6, monitor="accuracy")
    run = fit(splits(squares), config, optimizer=rises_after(3, 9))
    accuracies = run.history["val_accuracy"]
    assert run.best_epoch == int(np.argmax(accuracies)) + 1
    assert run.metrics["val_accuracy"] == accuracies.max()


def test_without_a_monitor_the_last_model_is_the_result(squares: Arrays, tmp_path: Path) -> None:
    config = settings(epochs=4, monitor=None)
    run = fit(splits(squares), config, optimizer=rises_after(2, 9), directory=tmp_path / "run")
    assert run.best_epoch == 4
    assert run.metrics["val_loss"] == pytest.approx(run.history["val_loss"][-1], rel=1e-6)
    assert run.history["val_loss"][-1] > run.history["val_loss"].min()
    assert trees.tree_hash(cj.load(tmp_path / "run").variables) == run.parameter_hash


def test_without_validation_data_the_last_model_is_the_result(squares: Arrays) -> None:
    run = fit(squares, settings(epochs=2, monitor="loss"))
    last = fit(squares, settings(epochs=2, monitor=None))
    assert (run.best_epoch, run.parameter_hash) == (2, last.parameter_hash)


def test_early_stopping_without_validation_data_is_refused(squares: Arrays) -> None:
    with pytest.raises(ValueError, match="early_stopping=1 needs validation data"):
        fit(squares, settings(monitor="loss", early_stopping=1))


def test_early_stopping_waits_as_long_as_it_was_told(squares: Arrays) -> None:
    config = settings(epochs=20, monitor="loss", early_stopping=2)
    run = fit(splits(squares), config, optimizer=rises_after(2, 9))
    assert len(run.history["loss"]) == run.best_epoch + 2 < 20
    shorter = fit(splits(squares), settings(epochs=run.best_epoch), optimizer=rises_after(2, 9))
    assert shorter.parameter_hash == run.parameter_hash


def test_the_averaged_model_is_validated_and_returned(squares: Arrays) -> None:
    averaged = fit(splits(squares), settings(average=0.9))
    plain = fit(splits(squares), settings())
    np.testing.assert_allclose(averaged.history["loss"], plain.history["loss"], rtol=1e-5)
    assert averaged.parameter_hash != plain.parameter_hash
    assert averaged.history["val_loss"][0] != pytest.approx(plain.history["val_loss"][0], rel=1e-3)
    wanted = cj.evaluate(averaged.model, splits(squares).validation)
    assert averaged.metrics["val_loss"] == pytest.approx(wanted["loss"], rel=1e-5)


def test_one_logit_learns_two_classes(squares: Arrays) -> None:
    images, labels = squares
    two = (images[labels < 2], labels[labels < 2])
    run = fit(two, settings(epochs=6, learning_rate=3e-3), mlp(num_classes=1))
    probs = cj.predict(run.model, two[0])
    assert probs.shape == (64, 1)
    np.testing.assert_array_equal(probs[:, 0] > 0.5, two[1] == 1)
    assert run.history["accuracy"][-1] == 1.0


def test_a_loss_of_ones_own(squares: Arrays) -> None:
    def brier(logits: jax.Array, labels: jax.Array) -> jax.Array:
        error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)
        return jnp.sum(error**2, axis=-1)

    run = fit(splits(squares), settings(epochs=6), loss=brier)
    assert 0 < run.history["loss"][-1] < run.history["loss"][0] < 2
    probs = cj.predict(run.model, squares[0])
    by_hand = ((probs - np.eye(3)[squares[1]]) ** 2).sum(axis=1).mean()
    means = cj.evaluate(run.model, from_arrays(*squares), loss=brier)
    assert means["loss"] == pytest.approx(by_hand, rel=1e-4)


def test_any_optax_optimizer(squares: Arrays) -> None:
    own = fit(squares, optimizer=optax.chain(optax.clip(1.0), optax.lion(1e-3)))
    assert own.history["loss"][-1] < own.history["loss"][0]
    assert own.parameter_hash != fit(squares).parameter_hash
    same = fit(squares, settings(optimizer="sgd", learning_rate=0.1))
    by_hand = fit(squares, optimizer=optax.sgd(0.1))
    np.testing.assert_allclose(by_hand.history["loss"], same.history["loss"], rtol=1e-6)


def test_frozen_layers_come_out_as_they_went_in(squares: Arrays) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    run = fit(squares, settings(frozen=("conv", "norm"), weight_decay=0.1), model)
    for tree in ("params", "batch_stats"):
        before, after = model.variables[tree], run.model.variables[tree]
        for layer in before:
            same = trees.tree_hash(before[layer]) == trees.tree_hash(after[layer])
            assert same is (layer != "logits"), f"{tree}/{layer}"


def test_a_batch_larger_than_the_validation_data_is_fine(squares: Arrays) -> None:
    run = fit(splits(squares), settings(batch_size=60))
    validation = splits(squares).validation
    wanted = cj.evaluate(run.model, validation, batch_size=5)
    assert run.metrics["val_loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert run.metrics["val_accuracy"] == wanted["accuracy"]


@pytest.mark.parametrize("batch_size", [1, 7, 96, 200])
def test_evaluation_does_not_depend_on_the_batch_size(squares: Arrays, batch_size: int) -> None:
    model, data = mlp(), from_arrays(*squares)
    found = cj.evaluate(model, data, batch_size=batch_size)
    probs = cj.predict(model, squares[0])[np.arange(96), squares[1]]
    assert found["loss"] == pytest.approx(-np.log(probs).mean(), rel=1e-4)


def test_a_line_an_epoch_and_no_control_codes(
    squares: Arrays, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    fit(splits(squares), settings(epochs=3), verbose=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"[^\n -~]", out) is None
    for i, line in enumerate(out.splitlines(), start=1):
        assert line.startswith(f"epoch {i}/3  loss ")
        assert len(re.findall(r"\b\d+\.\d{4}\b", line)) == 4  # loss and accuracy, of both parts
    assert len(out.splitlines()) == 3


def test_verbose_false_prints_nothing(squares: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    assert capsys.readouterr() == ("", "")


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5])
def test_a_progress_bar_changes_no_bit(
    squares: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chunk: int,
) -> None:
    wanted = fit(squares, settings(steps_per_dispatch=chunk))
    monkeypatch.setattr(epoch_bar, "_terminal", lambda: True)
    monkeypatch.setattr(epoch_bar, "_REDRAW_SECONDS", -1.0)
    run = fit(squares, settings(steps_per_dispatch=chunk), verbose=True)
    assert run.parameter_hash == wanted.parameter_hash
    assert run.history["loss"].tolist() == wanted.history["loss"].tolist()
    assert "epoch 2/2  loss" in capsys.readouterr().out


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_a_huge_learning_rate_stops_the_run(squares: Arrays, chunk: int) -> None:
    config = settings(optimizer="sgd", learning_rate=1e30, steps_per_dispatch=chunk)
    message = r"loss became (nan|inf) in epoch 1, step [2-5] of 12; no checkpoint .* 1e\+30"
    with pytest.raises(NonFiniteLoss, match=message):
        fit(squares, config)


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_nan_is_reported_with_its_step_and_the_last_good_checkpoint_remains(
    squares: Arrays, tmp_path: Path, chunk: int
) -> None:
    config = settings(epochs=4, steps_per_dispatch=chunk)
    message = r"loss became nan in epoch 2, step 9 of 12; the last good checkpoint is step 12 in "
    with pytest.raises(NonFiniteLoss, match=message + re.escape(str(tmp_path))):
        fit(squares, config, optimizer=breaks_at(20), directory=tmp_path / "run")
    good = fit(squares, settings(epochs=1, steps_per_dispatch=chunk), optimizer=breaks_at(20))
    assert trees.tree_hash(cj.load(tmp_path / "run").variables) == good.parameter_hash
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5])
def test_nan_within_an_epoch_is_never_saved(squares: Arrays, tmp_path: Path, chunk: int) -> None:
    config = settings(steps_per_dispatch=chunk, checkpoint_every=2)
    last = 4 if chunk == 1 else 5
    with pytest.raises(NonFiniteLoss, match=rf"epoch 1, step [67] of 12; .* is step {last} in"):
        fit(squares, config, optimizer=breaks_at(6), directory=tmp_path / "run")
    loaded = cj.load(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded.variables))


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5])
def test_a_loss_that_returns_nan_is_found_at_its_step(squares: Arrays, chunk: int) -> None:
    labels = np.where(np.arange(96) == 40, 2, squares[1] % 2)
    order, _ = Loader(from_arrays(squares[0], labels), 8, shuffle=True, seed=0).order(0)
    step = int(np.argwhere(order == 40)[0, 0]) + 1

    def fragile(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.where(labels == 2, jnp.nan, cj.metrics.softmax_cross_entropy(logits, labels))

    with pytest.raises(NonFiniteLoss, match=rf"loss became nan in epoch 1, step {step} of 12"):
        fit((squares[0], labels), settings(steps_per_dispatch=chunk), loss=fragile)


def test_nan_in_the_last_update_of_a_training_is_not_returned_as_a_result(
    squares: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteLoss, match=r"epoch 2"):
        fit(squares, optimizer=breaks_at(24), directory=tmp_path / "run")
    loaded = cj.load(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded.variables))


def test_nan_of_the_last_update_stops_the_run_before_it_is_judged(squares: Arrays) -> None:
    message = r"a parameter became NaN or infinite in epoch 1, step 9 of 9"
    with pytest.raises(NonFiniteLoss, match=message):
        fit(splits(squares), settings(epochs=1, monitor="loss"), optimizer=breaks_at(9))


def test_a_validation_loss_that_is_no_number_stops_the_run(squares: Arrays) -> None:
    def fragile(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.where(labels == 2, jnp.nan, cj.metrics.softmax_cross_entropy(logits, labels))

    easy = squares[1] < 2
    data = Splits(from_arrays(squares[0][easy], squares[1][easy]), from_arrays(*squares))
    with pytest.raises(NonFiniteLoss, match=r"val_loss became nan in epoch 1, step 8 of 8"):
        fit(data, settings(monitor="loss"), loss=fragile)


def test_without_a_checkpoint_of_the_good_past_the_error_says_so(
    squares: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteLoss, match="no checkpoint had been saved"):
        fit(squares, optimizer=breaks_at(3), directory=tmp_path / "run")
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        cj.load(tmp_path / "run")


def test_a_batch_larger_than_the_data_is_refused(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"batch_size=97 is larger than the 96 training examples"):
        fit(squares, settings(batch_size=97))


def test_images_of_another_shape_are_refused(squares: Arrays) -> None:
    message = r"images of shape \[10, 12, 1\], the model mlp takes \[12, 12, 1\]: .*\(10, 12, 1\)"
    with pytest.raises(ValueError, match=message):
        fit((squares[0][:, 1:11], squares[1]))


def test_labels_out_of_range_are_refused(squares: Arrays) -> None:
    labels = np.where(np.arange(96) == 17, 5, squares[1])
    message = r"labels\[17\] is 5, but mlp has num_classes=3, .*num_classes=6 or more"
    with pytest.raises(ValueError, match=message):
        fit((squares[0], labels))


def test_three_labels_do_not_fit_one_logit(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"labels\[2\] is 2, .* must lie in \[0, 2\)"):
        fit(squares, model=mlp(num_classes=1))


def test_the_part_that_does_not_fit_is_named(squares: Arrays) -> None:
    wrong = from_arrays(squares[0], squares[1] + 1, name="my test data")
    with pytest.raises(ValueError, match=r"my test data: labels\[2\] is 3"):
        fit(Splits(from_arrays(*squares), None, wrong))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(squares: Arrays, value: float) -> None:
    images = squares[0].astype(np.float32)
    images[33, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"images\[33\] holds NaN or infinity"):
        fit((images, squares[1]))
    # Also when the arrays went past `from_arrays`.
    with pytest.raises(ValueError, match=r"mine: images\[33\] holds NaN or infinity"):
        fit(Dataset(images, squares[1], name="mine"))


def test_an_empty_data_set_is_refused(squares: Arrays) -> None:
    images, labels = squares
    for data in ((images[:0], labels[:0]), Dataset(images[:0], labels[:0])):
        with pytest.raises(ValueError, match="the data set is empty"):
            fit(data)


def test_images_scaled_to_one_are_refused_and_pixels_as_floats_are_not(squares: Arrays) -> None:
    images, labels = squares
    with pytest.raises(ValueError, match=r"must be pixels in \[0, 255\], these lie in \[0, "):
        fit(((images / 255).astype(np.float32), labels))
    floats = fit((images.astype(np.float32), labels))
    assert floats.parameter_hash == fit(squares).parameter_hash


@pytest.mark.thorough
def test_images_scaled_to_one_are_for_a_model_without_preprocessing(squares: Arrays) -> None:
    images, labels = squares
    model = cj.Model.from_module(Convnet(), (12, 12, 1), preprocessing="none")
    scaled = fit(((images / 255).astype(np.float32), labels), model=model)
    unit = fit(squares, model=cj.Model.from_module(Convnet(), (12, 12, 1)))
    np.testing.assert_allclose(scaled.history["loss"], unit.history["loss"], rtol=1e-3)


def test_refusals_come_before_anything_is_written(squares: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no parameter"):
        fit(squares, settings(frozen=("dense7",)), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
