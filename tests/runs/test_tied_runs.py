"""The parts of a run belong together: what is mixed, changed or cut is named by every reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.runs import CheckpointError, RunError, write_report
from cnnjax.runs.results import collect
from cnnjax.runs.seal import ENDED_WITH, ID, SEAL, sealed
from cnnjax.training import Run

SHAPE = (6, 6, 1)
CONFIG = cj.TrainingConfig(epochs=3, batch_size=12, monitor=None)
NAMES = ("ant", "bee", "cat")


def data() -> cj.data.Splits:
    images = np.random.default_rng(0).integers(0, 255, (24, *SHAPE), dtype=np.uint8)
    return cj.data.Splits(cj.data.from_arrays(images, np.arange(24) % 3, label_names=NAMES))


def fit(run: Path, seed: int = 0, **changes: object) -> Run:
    model = cj.create_model(
        "mlp", input_shape=SHAPE, num_classes=3, units=(4,), seed=seed, label_names=NAMES
    )
    config = cj.config.from_dict(cj.TrainingConfig, {**cj.config.to_dict(CONFIG), **changes})
    facts = {"experiment": "tied"}
    return cj.fit(model, data(), config, directory=run, verbose=False, record=facts)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs alike in all but the weights they began with."""
    folder = tmp_path_factory.mktemp("two")
    for seed in (0, 1):
        fit(folder / str(seed), seed)
    return folder / "0", folder / "1"


@pytest.fixture
def run(two: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "run"))


def change(file: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content, indent=1) + "\n")


def resume(run: Path) -> None:
    fit(run, resume=True)


# Another run's


@pytest.mark.parametrize("read", [cj.load, resume])
@pytest.mark.thorough
def test_checkpoints_of_another_run_are_named(two: tuple, run: Path, read: Callable) -> None:
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(two[1] / "checkpoints", run / "checkpoints")
    with pytest.raises(CheckpointError, match=r"checkpoints/6 is of another run than the one it"):
        read(run)


@pytest.mark.thorough
def test_a_single_checkpoint_of_another_run_is_named_and_its_own_offered(
    two: tuple, run: Path
) -> None:
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.copytree(two[1] / "checkpoints" / "6", run / "checkpoints" / "6")
    with pytest.raises(CheckpointError, match=r"of another run .* step 4 is intact: load it with"):
        cj.load(run)
    assert cj.load(run, step=4).spec.name == "mlp"
    with pytest.raises(CheckpointError, match=r"step 4, is intact: delete"):
        resume(run)


def test_a_checkpoint_under_the_number_of_another_step_is_named(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "6")
    shutil.copytree(run / "checkpoints" / "4", run / "checkpoints" / "6")
    with pytest.raises(CheckpointError, match=r"checkpoints/6 is that of step 4, renamed"):
        cj.load(run)


@pytest.mark.parametrize("read", [write_report, resume, lambda run: collect([run]), cj.reproduce])
@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json"])
def test_records_of_another_run_are_named(two: tuple, run: Path, name: str, read: Callable) -> None:
    shutil.copy(two[1] / name, run / name)
    with pytest.raises(RunError, match=r"metrics\.jsonl was changed in line 1 since the run wrote"):
        read(run)


def test_a_record_of_another_run_does_not_fit_the_checkpoints(two: tuple, run: Path) -> None:
    shutil.copy(two[1] / "run.json", run / "run.json")
    with pytest.raises(CheckpointError, match="is of another run"):
        cj.load(run)


# Changed


MODELS: list[Callable[[dict], object]] = [
    lambda m: m.update(preprocessing="none"),
    lambda m: m.update(label_names=["bee", "ant", "cat"]),
    lambda m: m.update(resize="stretch"),
    lambda m: m.pop("label_names"),
    lambda m: m.update(mine=1),
]


@pytest.mark.parametrize("edit", MODELS)
@pytest.mark.parametrize(
    "read", [cj.load, write_report, resume, lambda run: collect([run])],
    ids=["load", "report", "resume", "results"],
)  # fmt: skip
def test_another_model_description_is_named(run: Path, edit: Callable, read: Callable) -> None:
    change(run / "model.json", edit)
    with pytest.raises(ValueError, match=r"model\.json was changed since the run wrote it \("):
        read(run)


def test_reproduce_names_another_model_description(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run / "model.json", MODELS[0])
    cj.reproduce(run, data=data(), allow_changed=("step",))
    expected = "model.json is not that of the run: ~ preprocessing: expected unit, found none"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("read", [write_report, resume, lambda run: collect([run])])
def test_a_configuration_edited_by_hand_is_named(run: Path, read: Callable) -> None:
    change(run / "config.json", lambda c: c["training"].update(learning_rate=0.5))
    with pytest.raises(RunError, match=r"config\.json was changed since the run wrote it: put"):
        read(run)
    with pytest.warns(UserWarning, match=r"belong together is not known: .*config\.json was"):
        cj.load(run)


def test_reproduce_tells_of_an_edited_configuration_and_trains_by_it(run: Path) -> None:
    change(run / "config.json", lambda c: c["training"].update(learning_rate=0.5))
    found = cj.reproduce(run, data=data(), verbose=False, allow_changed=("step",))
    assert "config.json is not the one that the run was started with" in found.circumstances
    assert not found.same


@pytest.mark.parametrize(
    "edit",
    [
        lambda r: r["metrics"].update(val_accuracy=1.0),
        lambda r: r.update(best_epoch=1),
        lambda r: r.pop(SEAL),
        lambda r: r.pop(ID),
        lambda r: r.pop(ENDED_WITH),
    ],
)
@pytest.mark.parametrize("read", [write_report, resume, lambda run: collect([run]), cj.reproduce])
def test_a_changed_record_is_named(run: Path, edit: Callable, read: Callable) -> None:
    change(run / "run.json", edit)
    with pytest.raises(RunError, match=r"run\.json was changed since the run wrote it"):
        read(run)


LINES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "number": (lambda n: [n[0], n[1].replace("2", "3", 1), n[2]], "was changed in line 2"),
    "swapped": (lambda n: [n[1], n[0], n[2]], "was changed in line 1"),
    "twice": (lambda n: [n[0], n[0], n[1], n[2]], "was changed in line 2"),
    "removed": (lambda n: [n[0], n[2]], "was changed in line 2"),
    "cut": (lambda n: n[:2], r"holds 2 epochs that are not the 3 the run ended with"),
    "cut within": (lambda n: [*n[:2], n[2][:-9]], r"holds 2 epochs that are not the 3"),
    "all": (lambda n: [], r"holds 0 epochs that are not the 3"),
    "space": (lambda n: [n[0], f"{n[1][:-1]} \n", n[2]], "was changed in line 2"),
}


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("read", [write_report, resume, lambda run: collect([run]), cj.reproduce])
def test_changed_and_cut_metrics_are_named(run: Path, kind: str, read: Callable) -> None:
    damage, message = LINES[kind]
    file = run / "metrics.jsonl"
    file.write_text("".join(damage(file.read_text().splitlines(keepends=True))))
    with pytest.raises(RunError, match=rf"metrics\.jsonl {message}"):
        read(run)


# What stays as it was


def test_what_is_intact_is_read_resumed_and_prolonged(two: tuple, run: Path) -> None:
    before = (two[0] / "metrics.jsonl").read_text()
    resume(run)
    assert (run / "metrics.jsonl").read_text() == before
    prolonged = fit(run, resume=True, epochs=4)
    assert len(prolonged.history["epoch"]) == 4
    write_report(run)
    (result,) = collect([run])
    assert result.runs[0]["epochs"] == 4
    assert cj.load(run).spec.label_names == NAMES


def test_a_run_moved_elsewhere_is_the_same_run(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "moved")
    write_report(moved)
    resume(moved)
    cj.load(moved)


def test_a_run_of_before_there_were_seals_is_read_and_prolonged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("secrets.token_hex", lambda count: "")
        fit(run)
    change(run / "run.json", lambda r: [r.pop(name) for name in (ID, SEAL)])
    write_report(run)
    collect([run])
    cj.load(run)
    assert len(fit(run, resume=True, epochs=4).history["epoch"]) == 4
    fit(run, resume=True, epochs=5)
    write_report(run)
    # What its record can tell, it tells.
    change(run / "config.json", lambda c: c.update(loss="other"))
    with pytest.raises(RunError, match=r"config\.json was changed"):
        resume(run)


def test_checkpoints_of_a_newer_run_are_not_those_of_an_old_one(two: tuple, tmp_path: Path) -> None:
    run = Path(shutil.copytree(two[0], tmp_path / "run"))
    change(run / "run.json", lambda r: [r.pop(name) for name in (ID, SEAL, ENDED_WITH)])
    with pytest.raises(CheckpointError, match="is of another run"):
        cj.load(run)


def test_facts_of_the_caller_cannot_take_the_place_of_a_seal(tmp_path: Path) -> None:
    model = cj.create_model("mlp", input_shape=SHAPE, num_classes=3, units=(4,))
    for name in (ID, SEAL, ENDED_WITH):
        with pytest.raises(RunError, match=f"'{name}' cannot be among the facts of a record"):
            cj.fit(model, data(), CONFIG, directory=tmp_path / "run", record={name: "mine"})
    assert not (tmp_path / "run").exists()


def test_a_record_that_is_sealed_anew_is_taken(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(sealed({**record, "note": "by hand"}))
    write_report(run)
