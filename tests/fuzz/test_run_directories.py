"""Damage anywhere in a run's records is an error of one line, and never passed over."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.core.reading import parse_json
from cnnjax.recipes import reproduce
from cnnjax.runs import CheckpointError, RunDirectory, RunError, report
from cnnjax.runs.results import collect
from cnnjax.runs.resuming import with_defaults
from cnnjax.runs.seal import ENDED_WITH, ID, SEAL

pytestmark = pytest.mark.thorough

FILES = ("config.json", "run.json", "metrics.jsonl", "model.json")
ERRORS = (RunError, CheckpointError, cj.models.UnreadableModel)
VALUES = (None, "x", "", 7, -1, 1e308, 10**30, True, [], {}, [{}], {"a": {"b": []}}, [None], "7")


class ReadAll(Exception):
    """Instead of a training."""


def finished(folder: Path) -> Path:
    """A finished run of an experiment on a file, of three epochs."""
    images = np.random.default_rng(0).integers(0, 255, (24, 12, 12, 1), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(24) % 3)
    data = cj.data.load(folder / "data.npz", validation=0.25)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=3, batch_size=8, augment=cj.augment.Augment(1, 1))
    facts = {"experiment": "fuzz", "reported": {"test_accuracy": 0.9}, "changed": {"epochs": 3}}
    cj.fit(model, data, config, directory=folder / "run", verbose=False, record=facts)
    report.write_report(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("intact"))


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One as an older version wrote it, without ids and seals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda count: "")
        run = finished(tmp_path_factory.mktemp("unsealed"))
    record = json.loads((run / "run.json").read_text())
    for name in (ID, SEAL, "config_hash"):
        del record[name]
    assert ENDED_WITH not in record
    (run / "run.json").write_text(json.dumps(record))
    assert SEAL not in (run / "metrics.jsonl").read_text()
    return run


def reported(run: Path) -> bool:
    report.write_report(run)
    return True


def collected(run: Path) -> bool:
    collect([run])
    return True


def loaded(run: Path) -> bool:
    cj.load(run)
    return True


def resumed(run: Path) -> bool:
    directory = RunDirectory(run)
    intact = RunDirectory(run.parent / "original")
    try:
        directory.check(intact.config(), {"data": intact.record()["data"]},
                        resume=True)  # fmt: skip
    finally:
        directory.release()
    return True


def reproduced(run: Path) -> bool:
    """Whether the training would begin without a word of what is not as it was."""
    named: list[str] = []
    circumstances, fit = reproduce.circumstances, reproduce.fit

    def keep(*arguments: Any) -> list[str]:
        named.extend(circumstances(*arguments))
        return named

    def reached(*arguments: Any, **more: Any) -> None:
        raise ReadAll

    reproduce.circumstances, reproduce.fit = keep, reached  # type: ignore[assignment]
    try:
        cj.reproduce(run, verbose=False)
    except ReadAll:
        return not named
    finally:
        reproduce.circumstances, reproduce.fit = circumstances, fit
    return True


# Of what each relies on.
READERS: dict[Callable[[Path], bool], tuple[str, ...]] = {
    reported: FILES,
    collected: FILES,
    reproduced: FILES,
    resumed: FILES,
    loaded: ("config.json", "run.json", "model.json"),
}


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a JSON value."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def swap_type(text: bytes, chance: random.Random) -> bytes:
    tree = json.loads(text)
    *parents, last = chance.choice(list(places(tree)))
    node = tree
    for key in parents:
        node = node[key]
    if chance.random() < 0.2 and isinstance(node, dict):
        del node[last]
    else:
        node[last] = chance.choice(VALUES)
    return json.dumps(tree, indent=1).encode()


def mutate(name: str, text: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What is done, and the damaged content."""
    kind = chance.choice(("flip", "flip", "flip", "cut", "type", "type", "nest", "lines"))
    if kind == "flip":
        damaged = bytearray(text)
        damaged[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        return kind, bytes(damaged)
    if kind == "cut":
        return kind, text[: chance.randrange(len(text))]
    if kind == "nest":
        return kind, b'{"a":' * 100_000 if chance.random() < 0.5 else b"[" * 100_000
    lines = text.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    if kind == "type" and name == "metrics.jsonl":
        lines[at] = json.dumps(json.loads(swap_type(lines[at], chance))).encode() + b"\n"
    elif kind == "type":
        return kind, swap_type(text, chance)
    else:
        lines = chance.choice(
            (lines[:at] + lines[at + 1 :], lines[: at + 1] + lines[at:], lines[::-1])
        )
    return kind, b"".join(lines)


def same(name: str, before: bytes, after: bytes) -> bool:
    """Whether nothing is said by the one that is not said by the other."""
    if before == after:
        return True
    if name != "model.json":
        return False
    try:
        old, new = ({"model": parse_json(text)} for text in (before, after))
        return with_defaults(old) == with_defaults(new)
    except (ValueError, AttributeError, TypeError):
        return False


def check(run: Path, folder: Path, seeds: range, readers: dict, *, known: bool) -> None:
    """Damage copies of a run and read them; where the run is sealed nothing may be passed over."""
    original = Path(shutil.copytree(run, folder / "original"))
    copy = Path(shutil.copytree(run, folder / "run"))
    contents = {name: (original / name).read_bytes() for name in FILES}
    for seed in seeds:
        chance = random.Random(seed)
        name = chance.choice(FILES)
        kind, damaged = mutate(name, contents[name], chance)
        if same(name, contents[name], damaged):
            continue
        (copy / name).write_bytes(damaged)
        for reader, files in readers.items():
            if name not in files:
                continue
            what, message = f"{reader.__name__} after {kind} in {name}, seed {seed}", ""
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", UserWarning)
                    warnings.simplefilter("ignore", RuntimeWarning)  # figures of absurd numbers
                    passed = reader(copy)
            except ERRORS as error:
                message = str(error)
            except UserWarning:
                assert reader is loaded, what
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
            else:
                assert not (passed and known), f"{what} passes it over"
            assert "\n" not in message, what
            assert len(message) < 1500, what
        (copy / name).write_bytes(contents[name])


def test_all_readers_take_what_is_intact(intact: Path, unsealed: Path, tmp_path: Path) -> None:
    for number, run in enumerate((intact, unsealed)):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder / "original")
        copy = Path(shutil.copytree(run, folder / "run"))
        for reader in READERS:
            assert reader(copy), reader.__name__


def test_some_damage_is_named_by_every_reader(intact: Path, tmp_path: Path) -> None:
    check(intact, tmp_path, range(150), READERS, known=True)


def test_some_damage_in_records_without_seals_is_no_traceback(
    unsealed: Path, tmp_path: Path
) -> None:
    cheap = {reader: FILES for reader in (collected, resumed)}
    check(unsealed, tmp_path, range(300), cheap, known=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_much_damage_is_named_by_every_reader(intact: Path, tmp_path: Path, part: int) -> None:
    check(intact, tmp_path, range(1000 * (part + 1), 1000 * (part + 2)), READERS, known=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_much_damage_in_records_without_seals_is_no_traceback(
    unsealed: Path, tmp_path: Path, part: int
) -> None:
    seeds = range(1000 * (part + 1), 1000 * (part + 1) + 300)
    check(unsealed, tmp_path, seeds, READERS, known=False)
