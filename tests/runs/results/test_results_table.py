"""The table of results: from run records, rows renewed one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import python
from run_records import fake, rows

from cnnjax.config import TrainingConfig
from cnnjax.recipes import Experiment, Options, run_experiment
from cnnjax.runs import RunError
from cnnjax.runs.results import collect, spread, write_results


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.8, 0.82, 0.84)):
        fake(tmp_path / "runs" / str(seed), seed, accuracy)
    file = write_results([tmp_path / "runs"], tmp_path / "RESULTS.md")
    head, _, row = rows(file, "Figures")
    found = dict(zip(head, row, strict=True))
    assert found == {
        "experiment": "small",
        "recipe": "tuned",
        "data": "squares train",
        "seeds": "3 (0 to 2)",
        "epochs": "2",
        "parameters": "1,234",
        "training": "99.00 ± 0.00",
        "validation": "",
        "test": "82.00 ± 2.00",
        "reported": "90.00",
        "test loss": "0.5000",
        "reported loss": "0.45",
    }
    head, _, row = rows(file, "Where and how")
    found = dict(zip(head, row, strict=True))
    assert found["seconds per run"] == "11"
    assert found["machine"] == "Some CPU, 2 cores"
    assert found["commit"] == "0123456"
    assert found["command"] == "`python -m experiments.small --recipe tuned --seeds 3`"


def test_forecasts_have_errors_instead_of_accuracies(tmp_path: Path) -> None:
    for seed, error in enumerate((0.25, 0.75)):
        metrics = {"test_absolute_error": error, "test_loss": 0.5}
        folder = fake(tmp_path / "runs" / str(seed), seed, 0, metrics=metrics, reported={})
        epochs = [{"epoch": n, "absolute_error": 2.0 - n / 2} for n in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in epochs))
    head, _, row = rows(write_results([tmp_path / "runs"], tmp_path / "RESULTS.md"), "Figures")
    found = dict(zip(head, row, strict=True))
    assert found["training"] == "1.0000 ± 0.0000 (error)"
    assert found["test"] == "0.5000 ± 0.3536 (error)"
    assert found["validation"] == found["reported"] == ""


def test_the_table_of_a_real_run(squares: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    np.savez(
        tmp_path / "squares.npz",
        x_train=squares[0], y_train=squares[1], x_test=squares[0], y_test=squares[1],
    )  # fmt: skip
    experiment = Experiment(
        "small", "a small net", "mlp", TrainingConfig(epochs=2, batch_size=16), "squares.npz",
        validation=0.25, train_examples=48, arguments={"units": (8,)},
    ).with_options(Options(data=str(tmp_path / "squares.npz"), seed=4))  # fmt: skip
    run = run_experiment(experiment, tmp_path / "run", verbose=False)
    write_results([tmp_path / "run"], tmp_path / "RESULTS.md")
    head, _, row = rows(tmp_path / "RESULTS.md", "Figures")
    found = dict(zip(head, row, strict=True))
    assert found["seeds"] == "1 (4)"
    assert found["data"].endswith("75 %, 48 of 72")
    assert found["test"] == f"{100 * run.metrics['test_accuracy']:.2f}"
    assert found["validation"] == f"{100 * run.metrics['val_accuracy']:.2f}"
    assert found["parameters"] == f"{145 * 8 + 9 * 3:,}"


def test_rows_of_other_runs_stay_and_a_newer_run_of_a_seed_counts(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    write_results([fake(tmp_path / "a", 0, 0.5, experiment="first", recipe="")], file)
    before = rows(file, "Figures")[2]
    fake(tmp_path / "b" / "old", 0, 0.6)
    fake(tmp_path / "b" / "new", 0, 0.7, ended="2026-01-02T00:00:00")
    write_results([tmp_path / "b"], file)
    figures = rows(file, "Figures")
    assert figures[2] == before
    assert figures[3][8] == "70.00"
    assert len(rows(file, "Where and how")) == 4
    once = file.read_text()
    write_results([tmp_path / "b"], file)
    assert file.read_text() == once


def test_unfinished_runs_and_those_of_no_experiment_are_left_out(tmp_path: Path) -> None:
    fake(tmp_path / "runs" / "a", 0, 0.5, status="running")
    fake(tmp_path / "runs" / "b", 1, 0.5, experiment=None)
    assert collect([tmp_path / "runs"]) == []
    with pytest.raises(RunError, match=r"no finished run of an experiment in .*runs"):
        write_results([tmp_path / "runs"], tmp_path / "RESULTS.md")
    assert not (tmp_path / "RESULTS.md").exists()


def test_other_settings_never_share_a_row(tmp_path: Path) -> None:
    fake(tmp_path / "runs" / "a", 0, 0.5)
    other = fake(tmp_path / "runs" / "b", 1, 0.5)
    config = json.loads((other / "config.json").read_text())
    config["training"]["epochs"] = 3
    (other / "config.json").write_text(json.dumps(config))
    expected = r"runs/b is a run of small tuned .* \(~ training/epochs: expected 2, found 3\)"
    with pytest.raises(RunError, match=expected):
        collect([tmp_path / "runs"])


def test_other_data_of_the_same_name_never_share_a_row(tmp_path: Path) -> None:
    for seed, print_ in enumerate("ab"):
        part = {"name": "squares", "examples": 10, "fingerprint": print_}
        fake(tmp_path / "runs" / print_, seed, 0.5, data={"train": part, "test": part})
    with pytest.raises(RunError, match=r"test data: expected a, found b"):
        collect([tmp_path / "runs"])


@pytest.mark.parametrize(
    ("prints", "message"),
    [
        ("aaa", None),
        ("abc", None),  # an experiment that changes the images by the seed
        ("aab", "runs of small tuned squares are tested on different data, though not each seed"),
    ],
)
def test_data_that_an_experiment_changes_may_be_others_for_each_seed(
    tmp_path: Path, prints: str, message: str | None
) -> None:
    for seed, print_ in enumerate(prints):
        part = {"name": "squares", "examples": 10, "fingerprint": print_}
        data = {"train": part, "test": part}
        fake(tmp_path / "runs" / str(seed), seed, 0.5, data=data, source=None)
    if message is None:
        (result,) = collect([tmp_path / "runs"])
        assert len(result.runs) == 3
    else:
        with pytest.raises(RunError, match=message):
            collect([tmp_path / "runs"])


def test_changed_data_of_one_seed_are_the_same(tmp_path: Path) -> None:
    for name in "ab":
        part = {"name": "squares", "examples": 10, "fingerprint": name}
        fake(tmp_path / name, 0, 0.5, data={"train": part, "test": part}, source=None)
    message = r"b is a run of small .* of seed 0 like another .* test data are others \(a and b\)"
    with pytest.raises(RunError, match=message):
        collect([tmp_path])


def test_a_trial_of_fewer_epochs_is_a_row_of_its_own(tmp_path: Path) -> None:
    fake(tmp_path / "runs" / "a", 0, 0.5)
    fake(tmp_path / "runs" / "b", 0, 0.1, changed={"epochs": 1})
    assert [result.key[1] for result in collect([tmp_path / "runs"])] == [
        "tuned",
        "tuned, epochs=1",
    ]


@pytest.mark.parametrize("name", ["metrics", "seed", "seconds", "machine", "best_epoch", "data"])
def test_a_damaged_record_is_named(tmp_path: Path, name: str) -> None:
    file = fake(tmp_path / "runs" / "a", 0, 0.5) / "run.json"
    record = json.loads(file.read_text())
    del record[name]
    file.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"the record of .*runs/a is damaged"):
        collect([tmp_path / "runs"])


def test_what_else_is_in_the_file_stays(tmp_path: Path) -> None:
    file = write_results([fake(tmp_path / "a", 0, 0.5)], tmp_path / "RESULTS.md")
    text = file.read_text().replace("## Where and how", "By hand.\n\n## Where and how")
    file.write_text(f"{text}\n## Notes\n\n| own | table |\n")
    write_results([fake(tmp_path / "b", 1, 0.6, experiment="other")], file)
    assert "By hand.\n\n## Where and how" in file.read_text()
    assert file.read_text().endswith("\n## Notes\n\n| own | table |\n")
    assert len(rows(file, "Figures")) == len(rows(file, "Where and how")) == 4


def test_another_file_is_never_replaced(tmp_path: Path) -> None:
    run, file = fake(tmp_path / "a", 0, 0.5), tmp_path / "README.md"
    for text in ("# Mine\n", "## Figures\n\n| a | b |\n| --- | --- |\n\n## Where and how\n"):
        file.write_text(text)
        with pytest.raises(RunError, match=r"README\.md .* --out"):
            write_results([run], file)
        assert file.read_text() == text


def test_bars_and_line_breaks_stay_within_their_cell(tmp_path: Path) -> None:
    run = fake(tmp_path / "a", 0, 0.5, experiment="a | b", command="python -c 'x\ny | z'")
    for _ in range(2):
        file = write_results([run], tmp_path / "RESULTS.md")
        assert file.read_text().count("a \\| b") == 2
        assert len(file.read_text().split("## Figures")[1].splitlines()) == 11


def test_options_that_name_folders_are_left_out_of_the_command(tmp_path: Path) -> None:
    command = (
        "python -m experiments.small --out 'my runs' --data_dir=x --resume --epochs 3 --seed 0"
    )
    file = write_results([fake(tmp_path / "a", 0, 0.5, command=command)], tmp_path / "R.md")
    assert rows(file, "Where and how")[2][-1] == "`python -m experiments.small --epochs 3`"


def test_of_folders_and_files_the_command_has_the_names(tmp_path: Path) -> None:
    command = "python -m experiments.own_images /home/me/pets/ --weights=../w/net.h5 --seed 0"
    fake(tmp_path / "runs" / "0", 0, 0.8, command=command)
    head, _, row = rows(write_results([tmp_path / "runs"], tmp_path / "R.md"), "Where and how")
    said = dict(zip(head, row, strict=True))["command"]
    assert said == "`python -m experiments.own_images pets --weights=net.h5`"


def test_gaps_between_seeds_and_several_commits_are_told(tmp_path: Path) -> None:
    fake(tmp_path / "runs" / "a", 1, 0.5)
    fake(tmp_path / "runs" / "b", 4, 0.5, code={"commit": "abcdef0123", "modified": True})
    file = write_results([tmp_path / "runs"], tmp_path / "RESULTS.md")
    assert rows(file, "Figures")[2][3] == "2 (1, 4)"
    row = rows(file, "Where and how")[2]
    assert row[6] == "0123456, abcdef0 (changed)"
    elsewhere = {
        "machine": {"processor": "Other CPU", "cores": 4, "backend": "cpu"},
        "versions": {"jax": "0.11"},
        "code": {"commit": "fedcba9876"},
    }
    fake(tmp_path / "more", 2, 0.5, resumed=[elsewhere])
    write_results([tmp_path / "more"], file)
    assert rows(file, "Where and how")[2][4:7] == [
        "Some CPU, 2 cores, Other CPU, 4 cores",
        "0.10.2, 0.11",
        "0123456, fedcba9",
    ]
    assert row[7].endswith("--seed 1 (and 4)`")


def test_a_reported_validation_accuracy_is_shown_as_such(tmp_path: Path) -> None:
    fake(tmp_path / "runs" / "0", 0, 0.8, reported={"val_accuracy": 0.81})
    head, _, row = rows(write_results([tmp_path / "runs"], tmp_path / "RESULTS.md"), "Figures")
    assert dict(zip(head, row, strict=True))["reported"] == "81.00 (validation)"


def test_the_spread_is_that_of_a_sample() -> None:
    values = [0.5, 0.6, 0.9]
    assert spread(values) == f"66.67 ± {100 * np.std(values, ddof=1):.2f}"
    assert spread([]) == ""


@pytest.mark.thorough
def test_the_command(tmp_path: Path) -> None:
    fake(tmp_path / "checkpoints" / "small", 0, 0.5)
    assert python("-m", "cnnjax", "results", cwd=tmp_path).stdout == "RESULTS.md\n"
    assert "| small |" in (tmp_path / "RESULTS.md").read_text()
    done = python("-m", "cnnjax", "results", "nowhere", cwd=tmp_path, status=1)
    assert done.stderr == "error: nowhere does not exist or is no folder\n"


def test_a_run_from_before_a_setting_was_there_has_its_default(tmp_path: Path) -> None:
    for seed in (0, 1):
        fake(tmp_path / "runs" / str(seed), seed, 0.8)
    newer = tmp_path / "runs" / "1" / "config.json"
    config = json.loads(newer.read_text())
    config["training"]["log_gradients"] = False
    newer.write_text(json.dumps(config))
    (result,) = collect([tmp_path / "runs"])
    assert len(result.runs) == 2
    config["training"]["log_gradients"] = True
    newer.write_text(json.dumps(config))
    with pytest.raises(RunError, match="differs in more than the seed"):
        collect([tmp_path / "runs"])


def test_checkpoints_that_a_training_writes_meanwhile_are_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake(tmp_path / "run", 0, 0.5)
    checkpoints = run / "checkpoints"
    (checkpoints / "10").mkdir(parents=True)
    looked_into: list[str] = []
    scandir = os.scandir

    def noted(folder: Any) -> Any:
        looked_into.append(str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    write_results([tmp_path], tmp_path / "RESULTS.md")
    assert str(run) in looked_into
    assert not [folder for folder in looked_into if Path(folder).is_relative_to(checkpoints)]
