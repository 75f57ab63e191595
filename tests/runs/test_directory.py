"""The run directory: what is recorded, what is refused, what damage is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from commands import ROOT, after_every_dispatch, reseal

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.core.runtime import code_version
from cnnjax.runs import RunDirectory, RunError, holds_run, record, write_report
from cnnjax.training import Run

Arrays = tuple[np.ndarray, np.ndarray]
CONFIG = {"training": {"epochs": 2, "batch_size": 8, "schedule": "constant", "resume": False}}


def fit(data: Any, directory: Path, record: dict | None = None, **changes: Any) -> Run:
    settings = {"epochs": 2, "batch_size": 16, "monitor": None, **changes}
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    return cj.fit(
        model,
        data,
        cj.TrainingConfig(**settings),
        directory=directory,
        verbose=False,
        record=record,
    )


def start(run: RunDirectory, facts: dict | None = None, *, resume: bool) -> None:
    try:
        run.check(CONFIG, facts or {}, resume=resume)
        run.claim(CONFIG, facts or {})
    except BaseException:
        run.release()
        raise


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; take a copy to change anything."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (48, 12, 12, 1), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.arange(48) % 3, name="noise")
    directory = tmp_path_factory.mktemp("finished") / "run"
    fit(cj.data.Splits(data, None, data), directory, record={"experiment": "mine"}, seed=4)
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content_of(directory: Path) -> dict[str, bytes]:
    files = (p for p in directory.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(directory)): p.read_bytes() for p in files}


# What is there


def test_a_run_leaves_its_files_and_no_others(finished: Path) -> None:
    assert sorted(p.name for p in finished.iterdir() if p.name != ".lock") == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "model.json",
        "run.json",
    ]


def test_run_json_tells_what_ran_on_what_with_what_result(finished: Path) -> None:
    facts = json.loads((finished / "run.json").read_text())
    assert facts["status"] == "finished"
    assert (facts["seed"], facts["model"], facts["experiment"]) == (4, "mlp", "mine")
    assert facts["data"]["train"]["name"] == "noise"
    assert facts["data"]["train"]["examples"] == 48
    assert len(facts["data"]["train"]["fingerprint"]) == 16
    assert set(facts["data"]) == {"train", "test"}
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["machine"]["backend"] == jax.default_backend()
    assert facts["machine"]["cores"] >= 1
    assert facts["command"]
    assert facts["started"] <= facts["ended"]
    assert set(facts["metrics"]) == {"test_loss", "test_accuracy"}
    assert len(facts["parameter_hash"]) == 64
    assert facts["best_epoch"] == 2


def test_config_json_holds_every_setting(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["loss"] == "cross-entropy"
    assert config["model"]["name"] == "mlp"
    stored = config["training"]
    known = cj.TrainingConfig(epochs=2, batch_size=16, monitor=None, seed=4)
    assert stored == json.loads(json.dumps(cj.config.to_dict(known)))
    assert cj.config.from_dict(cj.TrainingConfig, stored) == known


def test_metrics_jsonl_has_the_history_line_by_line(squares: Arrays, tmp_path: Path) -> None:
    result = fit(squares, tmp_path / "run", epochs=3)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    for key, values in result.history.items():
        assert [json.loads(line)[key] for line in lines] == values.tolist()


def test_the_code_is_named_by_its_sources_and_in_a_checkout_by_its_commit() -> None:
    version = {**code_version()}
    assert len(version.pop("sources")) == 16
    if not (ROOT / ".git").exists():
        assert version == {}
        return
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert version["commit"] == head
    assert version["modified"] in (True, False)


def test_the_fingerprint_tells_data_apart(squares: Arrays, tmp_path: Path) -> None:
    images, labels = squares
    changed = images.copy()
    changed[5, 5, 5, 0] ^= 1
    prints = []
    for i, data in enumerate([(images, labels), (images, labels), (changed, labels)]):
        fit(data, tmp_path / str(i), epochs=1)
        facts = json.loads((tmp_path / str(i) / "run.json").read_text())
        prints.append(facts["data"]["train"]["fingerprint"])
    assert prints[0] == prints[1] != prints[2]


# A start or an end that fails


def test_what_cannot_be_recorded_leaves_nothing_in_the_way(squares: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a record takes numbers, texts and lists, got <object"):
        fit(squares, tmp_path / "run", record={"own": object()}, epochs=1)
    fit(squares, tmp_path / "run", epochs=1)


def test_a_start_that_fails_while_writing_can_be_repeated(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "run.json", "metrics.jsonl"):
        written = record.write_text

        def full(path: Path, text: str, name: str = name, written: Any = written) -> None:
            if path.name == name:
                raise OSError(28, "No space left on device", str(path))
            written(path, text)

        directory = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(record, "write_text", full)
            with pytest.raises(RunError, match=rf"{name} cannot be written \(No space left"):
                fit(squares, directory, epochs=1)
        fit(squares, directory, epochs=1, resume=True)


def test_the_first_error_is_the_one_that_is_told(squares: Arrays, tmp_path: Path) -> None:
    def lose_the_record(done: int) -> None:
        (tmp_path / "run" / "run.json").unlink(missing_ok=True)

    undo = after_every_dispatch(lose_the_record)
    try:
        with pytest.raises(cj.training.NonFiniteLoss):
            fit(squares, tmp_path / "run", optimizer="sgd", learning_rate=1e30)
    finally:
        undo()


def test_after_an_end_that_could_not_be_written_the_directory_is_free(
    squares: Arrays, tmp_path: Path
) -> None:
    def lose_the_record(done: int) -> None:
        (tmp_path / "run" / "run.json").unlink(missing_ok=True)

    undo = after_every_dispatch(lose_the_record)
    try:
        with pytest.raises(RunError, match=r"run\.json"):
            fit(squares, tmp_path / "run", epochs=1)
    finally:
        undo()
    fit(squares, tmp_path / "run", epochs=1, resume=True)


def test_resuming_keeps_how_the_run_began(squares: Arrays, tmp_path: Path) -> None:
    fit(squares, tmp_path / "run", epochs=1)
    file = tmp_path / "run" / "run.json"
    first = json.loads(file.read_text())
    first["machine"]["cores"] = 99
    file.write_text(json.dumps(first))
    reseal(tmp_path / "run")
    fit(squares, tmp_path / "run", epochs=2, resume=True)
    record = json.loads(file.read_text())
    for name in ("machine", "versions", "code", "initial_hash", "started", "command"):
        assert record[name] == first[name]
    (again,) = record["resumed"]
    assert again["machine"]["cores"] != 99
    assert again["versions"] == first["versions"]


# Claiming a directory


def test_a_new_directory_is_made_with_its_parents(squares: Arrays, tmp_path: Path) -> None:
    result = fit(squares, tmp_path / "a" / "b" / "run", epochs=1)
    assert result.directory == tmp_path / "a" / "b" / "run"


def test_an_empty_directory_is_taken(squares: Arrays, tmp_path: Path) -> None:
    fit(squares, tmp_path, epochs=1)
    assert holds_run(tmp_path)


def test_a_directory_that_holds_a_run_is_refused_without_resume(squares: Arrays, run: Path) -> None:
    before = content_of(run)
    with pytest.raises(RunError, match=f"{run} already holds a run: choose another directory, or"):
        fit(squares, run)
    assert content_of(run) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_directory_is_refused_and_left_alone(
    squares: Arrays, tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=f"{tmp_path} is not empty and holds no run"):
        fit(squares, tmp_path, resume=resume)
    assert content_of(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_file_is_no_directory(squares: Arrays, tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text("")
    with pytest.raises(RunError, match=f"{file} is a file, not a directory"):
        fit(squares, file)


def test_a_run_killed_while_it_claimed_the_directory_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed() -> None:
        raise Killed

    monkeypatch.setattr(record, "machine", killed)
    with pytest.raises(Killed):
        start(RunDirectory(tmp_path / "run"), resume=False)
    monkeypatch.undo()
    start(RunDirectory(tmp_path / "run"), resume=True)
    assert holds_run(tmp_path / "run")


# Resuming with something else


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 8}, "training/batch_size: expected 16, found 8"),
        ({"learning_rate": 0.5}, "training/learning_rate: expected 0.001, found 0.5"),
        ({"seed": 5}, "training/seed: expected 4, found 5"),
        ({"steps_per_dispatch": 2}, "training/steps_per_dispatch: expected None, found 2"),
        ({"augment": cj.augment.Augment(width_shift=1)}, "training/augment"),
    ],
)
def test_resuming_with_other_settings_names_them_and_changes_nothing(
    run: Path, changes: dict[str, Any], difference: str
) -> None:
    before = content_of(run)
    with pytest.raises(RunError, match="holds a run with other settings") as caught:
        fit(noise(), run, **{"seed": 4, "resume": True, **changes})
    assert difference in str(caught.value)
    assert content_of(run) == before


def forget(run: Path, *names: str, part: str = "training") -> None:
    """Make config.json that of a version which did not have some settings yet."""
    config = json.loads((run / "config.json").read_text())
    for name in names:
        del config[part][name]
    (run / "config.json").write_text(json.dumps(config))
    reseal(run)


NEW_SETTINGS = ("rate_factors", "layer_decay", "clip_norm", "log_gradients")


def test_a_run_of_before_there_was_a_setting_is_resumed(run: Path) -> None:
    forget(run, *NEW_SETTINGS)
    forget(run, "interpolation", part="model")
    resumed = fit(noise(), run, {"experiment": "mine"}, seed=4, resume=True, epochs=3)
    assert len(resumed.history["epoch"]) == 3
    config = json.loads((run / "config.json").read_text())
    assert config["training"]["layer_decay"] == 1.0


@pytest.mark.parametrize(
    "changes", [{"layer_decay": 0.5}, {"rate_factors": (("dense1", 0.5),)}, {"clip_norm": 1.0}]
)
def test_but_not_with_another_value_than_the_one_it_had_in_effect(run: Path, changes: dict) -> None:
    forget(run, *NEW_SETTINGS)
    (name,) = changes
    with pytest.raises(RunError, match=rf"other settings \(~ training/{name}: expected"):
        fit(noise(), run, {"experiment": "mine"}, seed=4, resume=True, epochs=3, **changes)


@pytest.mark.thorough
def test_so_is_one_with_augmentation_and_an_optimiser_of_its_own(tmp_path: Path) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    config = cj.TrainingConfig(
        epochs=1, batch_size=16, augment=cj.augment.Augment(width_shift=2), monitor=None
    )
    run, optimizer = tmp_path / "run", optax.sgd(0.1)
    cj.fit(model, noise(), config, optimizer=optimizer, directory=run, verbose=False)
    forget(run, *NEW_SETTINGS)
    settings = json.loads((run / "config.json").read_text())
    settings["training"]["augment"] = {"width_shift": 2}
    (run / "config.json").write_text(json.dumps(settings))
    reseal(run)
    config = dataclasses.replace(config, resume=True)
    cj.fit(model, noise(), config, optimizer=optimizer, directory=run, verbose=False)


def resume_with(model: cj.Model, data: Any, directory: Path) -> Run:
    config = cj.TrainingConfig(epochs=2, batch_size=16, monitor=None, seed=4, resume=True)
    facts = {"experiment": "mine"}
    return cj.fit(model, data, config, directory=directory, verbose=False, record=facts)


def noise() -> cj.data.Splits:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (48, 12, 12, 1), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.arange(48) % 3, name="noise")
    return cj.data.Splits(data, None, data)


def test_resuming_with_another_model_changes_nothing(run: Path) -> None:
    before = content_of(run)
    wider = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(17,))
    with pytest.raises(ValueError, match=r"units: expected \[16\], found \[17\]"):
        resume_with(wider, noise(), run)
    assert content_of(run) == before
    assert cj.load(run).spec.arguments == {"units": (16,)}


def test_resuming_with_other_data_is_refused_and_changes_nothing(run: Path) -> None:
    before = content_of(run)
    other = noise()
    other.train.inputs[0, 0, 0, 0] ^= 1
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    with pytest.raises(RunError, match=r"train.*fingerprint"):
        resume_with(model, other, run)
    assert content_of(run) == before


def test_a_damaged_checkpoint_is_reported_and_changes_nothing(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "6" / "training")
    before = content_of(run)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    with pytest.raises(ValueError, match="step 3, is intact"):
        resume_with(model, noise(), run)
    assert content_of(run) == before


# Damage


@pytest.mark.parametrize("name", ["config.json", "run.json"])
@pytest.mark.parametrize("content", ["", '{"training": ', "[1, 2]", "\0\1\2", b"\xff\xfe{}"])
def test_damaged_json_is_named(run: Path, name: str, content: str | bytes) -> None:
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=rf"{run / name} (cannot be read|is not a run's)"):
        RunDirectory(run).read_whole()
    with pytest.raises(RunError, match=str(run / name)):
        write_report(run)


def test_damaged_settings_stop_a_resumption_before_anything_is_changed(run: Path) -> None:
    (run / "config.json").write_text('{"training": ')
    before = content_of(run)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        resume_with(model, noise(), run)
    assert content_of(run) == before


def test_the_model_loads_also_where_the_records_are_damaged(finished: Path, run: Path) -> None:
    for name in ("config.json", "run.json", "metrics.jsonl"):
        (run / name).write_text("{")
    wanted = json.loads((finished / "run.json").read_text())["parameter_hash"]
    with pytest.warns(
        UserWarning, match=r"belong together is not known: .*run\.json cannot be"
    ) as w:
        model = cj.load(run)
    assert w[0].filename == __file__  # where `load` was called
    assert trees.tree_hash(model.variables) == wanted


def test_a_missing_directory_or_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"run directory {tmp_path / 'nowhere'} does not exist"):
        RunDirectory(tmp_path / "nowhere").record()
    with pytest.raises(RunError, match=rf"{tmp_path} is not a run directory: it has no run\.json"):
        RunDirectory(tmp_path).record()


def metrics(directory: Path, text: str | bytes) -> RunDirectory:
    content = text if isinstance(text, bytes) else text.encode()
    (directory / "metrics.jsonl").write_bytes(content)
    return RunDirectory(directory)


def test_a_last_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = metrics(tmp_path, '{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert run.epochs() == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.parametrize(
    "text",
    [
        '{"epoch": 1}\n{"epo\n{"epoch": 3}\n',
        '{"epoch": 1}\nhello\n{"epoch": 3}\n',
        '{"epoch": 1}\n7\n{"epoch": 3}\n',
        b'{"epoch": 1}\n{"\xff": 2}\n{"epoch": 3}\n',
    ],
    ids=["cut", "text", "number", "bytes"],
)
def test_a_damaged_line_in_the_middle_is_not_passed_over_in_silence(
    tmp_path: Path, text: str | bytes
) -> None:
    run = metrics(tmp_path, text)
    with pytest.raises(RunError, match=r"metrics\.jsonl.*line 2"):
        run.epochs()


def test_no_metrics_yet_is_no_epoch(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).epochs() == []
    assert metrics(tmp_path, "").epochs() == []


def test_lines_are_appended_and_cut_back(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for epoch in (1, 2, 3):
        run.append({"epoch": epoch, "loss": 0.1 + 0.2})
    assert run.truncate(2) == [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.1 + 0.2}]
    run.append({"epoch": 3})
    assert [line["epoch"] for line in run.epochs()] == [1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_an_append_after_a_cut_off_line_does_not_join_it(tmp_path: Path) -> None:
    run = metrics(tmp_path, '{"epoch": 1}\n{"epo')
    run.truncate(1)
    run.append({"epoch": 2})
    assert run.epochs() == [{"epoch": 1}, {"epoch": 2}]


def test_how_a_run_ended_is_added_to_what_was_known(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    start(run, {"seed": 3}, resume=False)
    assert run.record()["status"] == "running"
    run.finish("interrupted", epoch=2)
    facts = run.record()
    assert (facts["status"], facts["seed"], facts["epoch"]) == ("interrupted", 3, 2)
