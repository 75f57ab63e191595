"""Checkpoints: bitwise round trips, what is kept, and damage that never becomes a wrong value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stored_states
from flax import linen

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.runs import CheckpointError, Checkpoints
from cnnjax.training import TrainState

PROGRESS = {"epoch": 3, "totals": {"loss": 0.1 + 0.2, "count": 96.0}, "best": None, "done": False}


class Normalised(linen.Module):
    width: int = 4

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Dense(self.width, name="dense")(x.reshape(x.shape[0], 9))
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(2, name="logits")(x)


def state_at(
    step: int,
    optimizer: optax.GradientTransformation | None = None,
    width: int = 4,
    **arguments: Any,
) -> TrainState:
    """A state whose every leaf has random bits, another for every step."""
    model = cj.Model.from_module(Normalised(width), (3, 3, 1))
    empty = TrainState.create(model, optimizer or optax.adam(1e-3), **arguments)
    rng = np.random.default_rng(step)

    def scramble(leaf: jax.Array) -> jax.Array:
        noise = rng.integers(0, 2**31, leaf.shape).astype(np.int32)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.normal(size=leaf.shape).astype(leaf.dtype))
        return jnp.asarray(noise.astype(leaf.dtype))

    scrambled = jax.tree.map(scramble, empty)
    return TrainState(**{**vars(scrambled), "step": jnp.asarray(step, jnp.int32)})


def bits(state: TrainState) -> list[tuple[str, str]]:
    return [
        (jax.tree_util.keystr(path), trees.leaf_hash(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def save_all(directory: Path, *states: TrainState, **options: Any) -> None:
    checkpoints = Checkpoints(directory, **options)
    for state in states:
        stored_states.save(checkpoints, state, PROGRESS)
    checkpoints.close()


def load_state(directory: Path, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    checkpoints = Checkpoints(directory, read_only=True)
    try:
        return stored_states.load(checkpoints, template)
    finally:
        checkpoints.close()


def steps_in(directory: Path) -> list[int]:
    return sorted(int(p.name) for p in directory.iterdir())


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"average": True},
        {"frozen": ("dense",)},
        {"frozen": ("dense", "norm"), "average": True},
        {"optimizer": optax.sgd(0.1)},
        {"optimizer": optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(1, 9)))},
    ],
    ids=["plain", "average", "frozen", "both", "no-optimiser-state", "chain"],
)
def test_every_bit_comes_back(tmp_path: Path, arguments: dict[str, Any]) -> None:
    state = state_at(7, **arguments)
    save_all(tmp_path, state)
    loaded, progress = load_state(tmp_path, state_at(0, **arguments))
    assert bits(loaded) == bits(state)
    assert jax.tree.map(lambda x: x.dtype, loaded) == jax.tree.map(lambda x: x.dtype, state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert progress == PROGRESS


@pytest.mark.parametrize("name", ["a[1]", "a*", "?", "[!b]/[a-z]"])
def test_a_folder_may_have_a_name_that_is_a_pattern(tmp_path: Path, name: str) -> None:
    state = state_at(7)
    save_all(tmp_path / name, state)
    assert bits(load_state(tmp_path / name, state_at(0))[0]) == bits(state)


def test_special_values_come_back_bitwise(tmp_path: Path) -> None:
    state = state_at(1)
    odd = np.array([[0.0, -0.0, np.inf, 1e-42]] * 9, np.float32)
    state.params["dense"]["kernel"] = jnp.asarray(odd)
    save_all(tmp_path, state)
    loaded, _ = load_state(tmp_path, state_at(0))
    assert np.asarray(loaded.params["dense"]["kernel"]).tobytes() == odd.tobytes()


def test_a_model_without_other_collections_comes_back(tmp_path: Path) -> None:
    model = cj.create_model("mlp", input_shape=(3, 3, 1), units=(4,), num_classes=2)
    state = TrainState.create(model, optax.adam(1e-3), seed=5)
    save_all(tmp_path, state)
    template = TrainState.create(model, optax.adam(1e-3), seed=6)
    loaded, _ = load_state(tmp_path, template)
    assert bits(loaded) == bits(state) != bits(template)


def test_the_variables_to_evaluate_load_without_the_optimiser(tmp_path: Path) -> None:
    state = state_at(7, frozen=("dense",), average=True)
    save_all(tmp_path, state)
    shutil.rmtree(tmp_path / "7" / "training")
    checkpoints = Checkpoints(tmp_path, read_only=True)
    variables, progress = checkpoints.load_variables()
    checkpoints.close()
    assert trees.tree_hash(variables) == trees.tree_hash(state.variables())
    assert progress == PROGRESS


def test_the_latest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    # A score is given only where it beats all before it.
    for step, score in zip(range(1, 9), (-3.0, -2.0, -1.0, *[None] * 5), strict=True):
        stored_states.save(
            checkpoints, state_at(step), {"best_step": min(step, 3)}, best=score is not None
        )
    checkpoints.wait()
    assert checkpoints.steps() == [3, 7, 8]
    assert checkpoints.best_step() == 3
    variables, _ = checkpoints.load_variables()
    checkpoints.close()
    assert trees.tree_hash(variables) == trees.tree_hash(state_at(3).variables())
    assert steps_in(tmp_path) == [3, 7, 8]


@pytest.mark.thorough
def test_more_of_the_best_may_be_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in range(1, 10):
        stored_states.save(checkpoints, state_at(step), {}, best=step <= 5)
    checkpoints.close()
    assert steps_in(tmp_path) == [3, 4, 5, 8, 9]


def test_the_best_are_kept_by_a_later_process_as_well(tmp_path: Path) -> None:
    for step, score in ((1, 0.5), (2, None), (3, None), (4, None), (5, None)):
        checkpoints = Checkpoints(tmp_path)
        stored_states.save(checkpoints, state_at(step), {"best_step": 1}, best=score is not None)
        checkpoints.close()
    assert steps_in(tmp_path) == [1, 4, 5]


def test_without_scores_the_latest_two_are_kept_and_the_latest_is_the_best(tmp_path: Path) -> None:
    save_all(tmp_path, *map(state_at, (2, 4, 6, 8)))
    assert steps_in(tmp_path) == [6, 8]
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.best_step() == 8
    checkpoints.close()


def test_a_step_that_is_saved_already_is_left_as_it_is(tmp_path: Path) -> None:
    first = state_at(4)
    second = TrainState(**{**vars(state_at(5)), "step": first.step})
    save_all(tmp_path, first, second)
    assert bits(load_state(tmp_path, state_at(0))[0]) == bits(first)


def test_the_state_may_be_donated_while_it_is_still_written(tmp_path: Path) -> None:
    state = state_at(3)
    wanted = bits(state)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    stored_states.save(checkpoints, state, PROGRESS)
    overwrite(state)
    checkpoints.close()
    assert bits(load_state(tmp_path, state_at(0))[0]) == wanted


def test_loading_changes_no_file(tmp_path: Path) -> None:
    save_all(tmp_path, state_at(2), state_at(4))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    load_state(tmp_path, state_at(0))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    save_all(tmp_path, state_at(2))
    half = tmp_path / "4.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "2", half)
    (half / "commit_success.txt").unlink()
    shutil.rmtree(half / "model")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [2]
    stored_states.save(checkpoints, state_at(4), PROGRESS)
    checkpoints.close()
    assert bits(load_state(tmp_path, state_at(0))[0]) == bits(state_at(4))


# Another model or optimiser


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        ({"width": 5}, r"~ model/params/dense/bias: expected \(\(5,\), '<f4'\), found \(\(4,\)"),
        ({"optimizer": optax.sgd(0.1)}, r"\+ training/opt_state/0000"),
        ({"average": True}, r"- training/params/"),
    ],
    ids=["width", "optimiser", "average"],
)
def test_a_checkpoint_of_something_else_names_the_differences(
    tmp_path: Path, arguments: dict[str, Any], difference: str
) -> None:
    save_all(tmp_path, state_at(7))
    with pytest.raises(CheckpointError, match="of another model, optimiser or step: ") as caught:
        load_state(tmp_path, state_at(0, **arguments))
    caught.match(difference)
    caught.match(str(tmp_path / "7"))
    assert "\n" not in str(caught.value)


# Damage


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the checkpoints of steps 6 and 12."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 255, (48, 3, 3, 1), dtype=np.uint8), np.arange(48) % 2
    config = cj.TrainingConfig(epochs=2, batch_size=8, optimizer="adam", average=0.9, monitor=None)
    directory = tmp_path_factory.mktemp("intact") / "run"
    model = cj.Model.from_module(Normalised(), (3, 3, 1))
    cj.fit(model, data, config, directory=directory, verbose=False)
    assert steps_in(directory / "checkpoints") == [6, 12]
    return directory


def loaded(run: Path) -> tuple[str | None, str | None]:
    """Hashes of the state to resume and of the model, or None where the error is a proper one."""
    model = cj.Model.from_module(Normalised(), (3, 3, 1))
    optimizer = cj.training.make_optimizer(cj.TrainingConfig(optimizer="adam"), 12)
    template = TrainState.create(model, optimizer, average=True)
    checkpoints = Checkpoints(run / "checkpoints", read_only=True)
    found: list[str | None] = []
    for load in (
        lambda: str(bits(stored_states.load(checkpoints, template)[0])),
        lambda: trees.tree_hash(checkpoints.load_variables()[0]),
    ):
        try:
            found.append(load())
        except CheckpointError as error:
            check_message(error, run)
            found.append(None)
    checkpoints.close()
    return found[0], found[1]


def check_message(error: CheckpointError, run: Path) -> None:
    assert str(run / "checkpoints" / "12") in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(p.relative_to(checkpoint) for p in checkpoint.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def right(intact: Path) -> tuple[str | None, str | None]:
    return loaded(intact)


@pytest.fixture
def outcome(intact: Path, right: tuple, tmp_path: Path) -> Callable[[Callable[[Path], str]], str]:
    """Damages a copy; what loads must be bitwise right. E stands for an error: state, model."""

    def damaged(damage: Callable[[Path], str]) -> str:
        run = tmp_path / "run"
        shutil.copytree(intact, run)
        what = damage(run / "checkpoints" / "12")
        found = loaded(run)
        shutil.rmtree(run)
        for wanted, got in zip(right, found, strict=True):
            assert got in (wanted, None), f"{what}: a wrong value was loaded without a word"
        return "".join("." if got else "E" for got in found)

    return damaged


def flip(seed: int) -> Callable[[Path], str]:
    """Change one byte somewhere in the checkpoint; every file has the same chance."""

    def damage(checkpoint: Path) -> str:
        rng = np.random.default_rng([seed, 99])
        names = [n for n in files_of(checkpoint) if (checkpoint / n).stat().st_size]
        file = checkpoint / names[rng.integers(len(names))]
        content = bytearray(file.read_bytes())
        at, change = int(rng.integers(len(content))), int(rng.integers(1, 256))
        content[at] ^= change
        file.write_bytes(content)
        return f"{file.relative_to(checkpoint)}, byte {at} xor {change} (seed {seed})"

    return damage


def delete(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_a_neighbour(file: Path) -> None:
    others = sorted(p for p in file.parent.parent.rglob("*") if p.is_file() and p != file)
    shutil.copy(others[0], file)


def kind_of_damage(kind: Callable[[Path], None], number: int) -> Callable[[Path], str]:
    def damage(checkpoint: Path) -> str:
        names = files_of(checkpoint)
        file = checkpoint / names[number % len(names)]
        kind(file)
        return f"{kind.__name__} {file.relative_to(checkpoint)}"

    return damage


KINDS = (delete, truncate, empty, replace_by_a_neighbour)
quiet = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.thorough
@quiet
def test_a_flipped_byte_never_becomes_a_wrong_value(outcome: Callable) -> None:
    outcomes = [outcome(flip(seed)) for seed in range(40)]
    # Most bytes matter, some are those of files that hold no values.
    assert outcomes.count("EE") >= 4
    assert outcomes.count("..") >= 1


@quiet
@pytest.mark.thorough
def test_damaged_files_never_become_a_wrong_value(outcome: Callable) -> None:
    outcomes = [outcome(kind_of_damage(KINDS[i % 4], i)) for i in range(20)]
    assert outcomes.count("EE") >= 4


@quiet
@pytest.mark.slow
def test_no_damage_of_many_becomes_a_wrong_value(outcome: Callable, intact: Path) -> None:
    outcomes = [outcome(flip(seed)) for seed in range(1000, 1500)]
    files = len(files_of(intact / "checkpoints" / "12"))
    outcomes += [outcome(kind_of_damage(kind, i)) for kind in KINDS for i in range(files)]
    assert outcomes.count("EE") >= 60


def test_a_wrong_value_is_named_with_directory_and_leaf(tmp_path: Path) -> None:
    right, wrong = state_at(5), state_at(5)
    kernel = np.array(wrong.params["logits"]["kernel"])
    kernel[1, 1] = np.nextafter(kernel[1, 1], np.float32(9))  # one bit
    wrong.params["logits"]["kernel"] = jnp.asarray(kernel)
    save_all(tmp_path / "run", state_at(3), right)
    save_all(tmp_path / "other", wrong)
    shutil.rmtree(tmp_path / "run" / "5" / "model")
    shutil.copytree(tmp_path / "other" / "5" / "model", tmp_path / "run" / "5" / "model")
    with pytest.raises(CheckpointError, match="model/params/logits/kernel differs") as caught:
        load_state(tmp_path / "run", state_at(0))
    caught.match(f"checkpoint {tmp_path / 'run' / '5'} is damaged")
    caught.match(f"step 3, is intact: delete {tmp_path / 'run' / '5'} and resume")


def test_a_changed_description_is_damage(tmp_path: Path) -> None:
    save_all(tmp_path, state_at(5))
    file = tmp_path / "5" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    meta["progress"]["epoch"] = 4
    file.write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match=r"5 is damaged: its description was changed"):
        load_state(tmp_path, state_at(0))


def test_the_offer_is_only_of_an_intact_checkpoint(tmp_path: Path) -> None:
    save_all(tmp_path, state_at(3), state_at(5))
    shutil.rmtree(tmp_path / "5" / "model")
    with pytest.raises(CheckpointError, match="step 3, is intact"):
        load_state(tmp_path, state_at(0))
    shutil.rmtree(tmp_path / "3" / "training")
    with pytest.raises(CheckpointError, match="There is no intact checkpoint before it"):
        load_state(tmp_path, state_at(0))


def test_following_the_offer_leads_to_the_checkpoint_before(tmp_path: Path) -> None:
    save_all(tmp_path, state_at(3), state_at(5))
    shutil.rmtree(tmp_path / "5" / "model")
    shutil.rmtree(tmp_path / "5")
    assert bits(load_state(tmp_path, state_at(0))[0]) == bits(state_at(3))


# cj.load


def test_load_takes_the_checkpoint_of_a_run(intact: Path) -> None:
    model = cj.load(intact, module=Normalised())
    recorded = json.loads((intact / "run.json").read_text())
    assert trees.tree_hash(model.variables) == recorded["parameter_hash"]


def test_load_says_what_a_module_of_ones_own_needs(intact: Path) -> None:
    with pytest.raises(ValueError, match=r"cj\.load\(directory, module=Normalised\(\.\.\.\)\)"):
        cj.load(intact)


def test_load_of_another_module_names_the_differences(intact: Path) -> None:
    with pytest.raises(ValueError, match=r"do not fit Normalised: .*~ params/dense/bias"):
        cj.load(intact, module=Normalised(width=5))


def test_load_of_a_run_without_a_checkpoint_says_so(intact: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(intact, run)
    for step in (run / "checkpoints").iterdir():
        shutil.rmtree(step)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"the run {run} has no checkpoint yet"):
            cj.load(run, module=Normalised())
        shutil.rmtree(run / "checkpoints", ignore_errors=True)


def test_load_of_what_is_no_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"neither a saved model \(.*\) nor a run directory"):
        cj.load(tmp_path)
    for missing in (tmp_path / "nowhere", tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=f"{missing} does not exist or is no directory"):
            cj.load(missing)


def test_load_needs_the_description_of_the_model(intact: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(intact, run)
    (run / "model.json").write_text('{"name": "mlp"')
    with pytest.raises(ValueError, match=r"model\.json is not a model description"):
        cj.load(run, module=Normalised())
    (run / "model.json").unlink()
    with pytest.raises(ValueError, match=r"holds no model\.json"):
        cj.load(run, module=Normalised())
