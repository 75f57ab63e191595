"""Several real processes train as one does: the same result, one record, one end."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import start

import cnnjax as cj
from experiments.benchmarks.processes import environments

WORKER = Path(__file__).with_name("process_worker.py")


def launch(folder: Path, part: str, count: int, devices: int = 1) -> list[dict[str, Any]]:
    """What each of several processes has seen."""
    started = []
    for variables in environments(count, devices):
        flags = {"XLA_FLAGS": variables["XLA_FLAGS"]}
        started.append(start(WORKER, folder, part, **(variables if count > 1 else flags)))
    said = [process.communicate(timeout=240)[1] for process in started]
    files = [folder / f"{part}-{index}.json" for index in range(count)]
    assert all(file.exists() for file in files), "\n".join(said)
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By one process, by two that are then killed, and by others that go on with that run."""
    folder, alone = tmp_path_factory.mktemp("processes"), tmp_path_factory.mktemp("alone")
    result = {"one": launch(alone, "one", 1), "two": launch(folder, "two", 2)}
    for name, (count, devices) in {"again": (2, 1), "four": (2, 2), "single": (1, 1)}.items():
        copy = tmp_path_factory.mktemp(name)
        shutil.copytree(folder / "killed", copy / "killed")
        result[name] = launch(copy, name, count, devices)
    return result


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest difference of two runs' weights."""
    assert a["weights"].keys() == b["weights"].keys()
    pairs = ((np.array(w), np.array(b["weights"][name])) for name, w in a["weights"].items())
    return max(float(np.abs(left - right).max()) for left, right in pairs)


@pytest.mark.thorough
def test_two_processes_end_where_one_does(seen: dict[str, list[dict[str, Any]]]) -> None:
    (one,), two = seen["one"], seen["two"]
    assert [process["devices"] for process in two] == [2, 2]
    for name in ("norm", "mlp", "chunks", "fsdp", "stream", "step"):
        assert two[0][name] == two[1][name], name
        assert distance(one[name], two[0][name]) < 1e-6, name
    assert two[0]["again"] == two[0]["norm"]["hash"]
    assert one["fsdp"] == one["whole"], "on one device there is nothing to divide"
    assert one["held"][0] == one["held"][1] == two[0]["held"][0]
    assert two[0]["held"][1] < 0.6 * two[0]["held"][0]
    assert two[0]["rate"] == two[1]["rate"] == pytest.approx(one["rate"], rel=1)


@pytest.mark.thorough
def test_metrics_of_several_processes_are_those_of_all_examples(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    (one,), (two, _) = seen["one"], seen["two"]
    for name, value in one["norm"]["metrics"].items():
        np.testing.assert_allclose(two["norm"]["metrics"][name], value, atol=1e-5, err_msg=name)
    assert np.sum(two["norm"]["metrics"]["test_table"]) == 19
    assert np.sum(two["norm"]["metrics"]["val_table"]) == 17


@pytest.mark.thorough
def test_two_processes_of_two_devices_end_where_one_does(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    (one,), four = seen["one"], seen["four"]
    assert [process["devices"] for process in four] == [4, 4]
    for name in ("norm", "fsdp"):
        assert four[0][name] == four[1][name]
        assert distance(one[name], four[0][name]) < 1e-6, name


@pytest.mark.thorough
def test_killed_processes_go_on_as_if_nothing_had_been(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    for process in seen["again"]:
        assert process["resumed"] == seen["two"][0]["norm"]
    for number in ("four", "single"):
        assert distance(seen[number][0]["resumed"], seen["two"][0]["norm"]) < 1e-6, number


@pytest.mark.thorough
def test_what_ends_one_process_ends_all(seen: dict[str, list[dict[str, Any]]]) -> None:
    first, second = seen["two"]
    assert first["failed"][0] == "KeyError: 'in process 0'"
    assert second["failed"][0] == (
        "ProcessFailed: fit ended: process 0 failed: KeyError: 'in process 0'"
    )
    assert second["failed"][1] == "KeyError: 'in process 1'"
    assert first["failed"][1] == (
        "ProcessFailed: fit ended: process 1 failed: KeyError: 'in process 1'"
    )
    assert "already holds a run" in first["taken"]
    assert first["taken"].startswith("RunError")
    assert "process 0 failed: RunError" in second["taken"]
    assert "7 does not divide among 2 processes" in first["odd"]


@pytest.mark.thorough
def test_a_signal_or_a_callback_stops_all_after_the_same_step(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    first, second = seen["two"]
    assert first["signalled"].startswith("stopped in epoch")
    assert first["signalled"] == second["signalled"]
    assert first["stopped"] == second["stopped"]
    assert first["stopped"]["epochs"] == 1


@pytest.mark.thorough
def test_all_processes_know_where_the_first_one_records(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    first, second = seen["two"]
    assert first["relative"] == second["relative"]
    assert Path(first["relative"]).parts[-2:] == ("in0", "run")


@pytest.mark.thorough
def test_processes_that_are_given_different_things_are_refused(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    first, second = (process["unlike"] for process in seen["two"])
    message = (
        "ValueError: fit has to be given the same in all processes, and process 1 is given, "
        "compared with process 0: "
    )
    assert second == [
        f"{message}epochs=2, not 1; seed=1, not 0",
        f"{message}other train data",
        f"{message}other callbacks",
    ]
    assert first == [f"ProcessFailed: fit ended: process 1 failed: {text}" for text in second]


@pytest.mark.thorough
def test_one_process_may_load_for_long_and_may_not_be_over(
    seen: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    assert [process["late"] for process in seen["two"]] == ["none", "none"]
    assert launch(tmp_path, "over", 2)[0]["alone"] == (
        "ProcessFailed: fit ended: process 1 is over: all have to run the same script to its end"
    )


def test_a_process_of_several_that_never_joined_is_refused(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    model = make()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    message = r"runs in one process of several that have not joined, as JAX_NUM_PROCESSES is 2"
    with pytest.raises(ValueError, match=f"^fit {message}"):
        cj.fit(model, squares, directory=tmp_path / "run")
    with pytest.raises(ValueError, match=f"^sweep {message}"):
        cj.sweep(make, squares, directory=tmp_path / "sweep")
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # as on a TPU pod
    with pytest.raises(ValueError, match=r"^fit .* as jax\.process_count\(\) is above 1"):
        cj.fit(model, squares, directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    # What each process may do for itself.
    assert cj.predict(model, squares[0][:2]).shape == (2, 3)
    assert cj.evaluate(model, squares)["loss"] > 0
