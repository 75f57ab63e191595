"""What determines a run is recorded; another one is refused by name, an equal one never."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import ROOT, python, start
from flax import linen

import cnnjax as cj
from cnnjax.config import CHANGEABLE, OPTIMIZERS
from cnnjax.core.describe import is_installed
from cnnjax.data import Splits, from_arrays
from cnnjax.runs import RunError
from cnnjax.runs.seal import sealed
from cnnjax.training.computation import identity_of
from cnnjax.training.given import Given
from cnnjax.training.identity import changes

CONFIG = cj.TrainingConfig(epochs=1, batch_size=8, monitor=None)
CLASSES = 3


def few() -> Splits:
    rng = np.random.default_rng(0)
    return Splits(from_arrays(rng.integers(0, 255, (16, 4, 4, 1), np.uint8), np.arange(16) % 3))


class Block(linen.Module):
    rate: float = 0.5

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return linen.Dropout(self.rate, deterministic=not train)(x)


class Net(linen.Module):
    dropout: float = 0.5
    blocks: tuple[linen.Module, ...] = ()
    activation: Callable = linen.relu

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = self.activation(linen.Dense(4)(x.reshape(len(x), -1)))
        for block in self.blocks:
            x = block(x, train)
        x = linen.Dropout(self.dropout, deterministic=not train)(x)
        return linen.Dense(CLASSES)(x)


def net(rate: float) -> type[linen.Module]:
    """A class whose constant is a variable around it."""

    class Made(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
            x = linen.Dropout(rate, deterministic=not train)(x.reshape(len(x), -1))
            return linen.Dense(CLASSES)(x)

    return Made


def squared(logits: jax.Array, labels: jax.Array, scale: float = 1.0) -> jax.Array:
    return scale * ((logits - jax.nn.one_hot(labels, CLASSES)) ** 2).sum(-1)


def focal(gamma: float) -> Callable:
    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        p = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], 1)[:, 0]
        return -((1 - p) ** gamma) * jnp.log(p)

    return loss


def written(name: str, text: str) -> Any:
    """What a script of another day defines under the same name."""
    known: dict[str, Any] = {"jax": jax, "jnp": jnp, "__name__": "script"}
    exec(text, known)
    return known[name]


def with_helper(term: str) -> Callable:
    text = f"def helper(x): return {term}\ndef loss(l, y): return helper(l).sum(-1) + 0 * y"
    return written("loss", text)


class Focal:
    """A loss that is an object."""

    def __init__(self, gamma: float):
        self.gamma = gamma

    def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        return focal(self.gamma)(logits, labels)


@dataclass(frozen=True)
class Darker:
    by: float = 0.5

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        return image * self.by


def darker(by: float) -> Callable:
    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        return image * by

    return change


class Own(cj.augment.Augment):
    """Ours, and then something of one's own."""

    strength = 0.5

    def __call__(self, key: jax.Array, images: jax.Array) -> jax.Array:
        return images * self.strength


class Stronger(Own):
    strength = 0.25


def schedule(by: float) -> Callable:
    return lambda count: by / (1.0 + count)


def identity(
    module: linen.Module | None = None,
    loss: Callable | None = None,
    optimizer: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    model = (
        cj.Model.from_module(module, (4, 4, 1))
        if module
        else cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=CLASSES, units=(4,))
    )
    return identity_of(model, few(), replace(CONFIG, **settings), Given(loss, optimizer))


def said(then: dict[str, Any], now: dict[str, Any]) -> str:
    """What makes `now` another run: after JSON, as a record goes."""
    found, _ = changes(json.loads(json.dumps(then)), now)
    return "; ".join(f"{change.part}: {change.text}" for change in found)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (
            {"module": Net(0.5)},
            {"module": Net(0.2)},
            "module: the module Net differs: dropout=0.5 then, 0.2 now",
        ),
        (
            {"module": Net(blocks=(Block(), Block(0.3)))},
            {"module": Net(blocks=(Block(), Block(0.4)))},
            "module: the module Net differs: blocks[1].rate=0.3 then, 0.4 now",
        ),
        (
            {"module": Net(activation=linen.relu)},
            {"module": Net(activation=linen.gelu)},
            "module: the module Net differs: activation=relu then, gelu now",
        ),
        (
            {"module": net(0.1)()},
            {"module": net(0.6)()},
            "module: the module Made differs: rate=0.1 then, 0.6 now",
        ),
        (
            {"loss": focal(2.0)},
            {"loss": focal(3.0)},
            "loss: the loss loss differs: gamma=2.0 then, 3.0 now",
        ),
        (
            {"loss": lambda logits, labels: logits.sum(-1)},
            {"loss": lambda logits, labels: logits.mean(-1)},
            "loss: the loss <lambda> differs: the code of <lambda>",
        ),
        (
            {"loss": functools.partial(squared, scale=1.0)},
            {"loss": functools.partial(squared, scale=2.0)},
            "loss: the loss squared differs: scale=1.0 then, 2.0 now",
        ),
        (
            {"loss": written("f", "def f(l, y, by=1.0): return by * l.sum(-1) + 0 * y")},
            {"loss": written("f", "def f(l, y, by=2.0): return by * l.sum(-1) + 0 * y")},
            "loss: the loss f differs: by=1.0 then, 2.0 now",
        ),
        (
            {"loss": with_helper("x ** 2")},
            {"loss": with_helper("x ** 4")},
            "loss: the loss loss differs: the code of helper",
        ),
        (
            {"loss": written("f", "BY = 1.0\ndef f(l, y): return BY * l.sum(-1) + 0 * y")},
            {"loss": written("f", "BY = 2.0\ndef f(l, y): return BY * l.sum(-1) + 0 * y")},
            "loss: the loss f differs: BY=1.0 then, 2.0 now",
        ),
        (
            {"loss": Focal(2.0)},
            {"loss": Focal(3.0)},
            "loss: the loss Focal differs: gamma=2.0 then, 3.0 now",
        ),
        (
            {"loss": jax.jit(focal(2.0))},
            {"loss": jax.jit(focal(3.0))},
            "loss: the loss loss differs: gamma=2.0 then, 3.0 now",
        ),
        (
            {"optimizer": optax.lion(1e-3)},
            {"optimizer": optax.lion(0.5)},
            "optimizer: the optimizer differs: step_size=-0.001 then, -0.5 now",
        ),
        (
            {"optimizer": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))},
            {"optimizer": optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.1))},
            "optimizer: the optimizer differs: weight_decay=0.1 then, 0.2 now",
        ),
        (
            {"optimizer": optax.adam(schedule(0.1))},
            {"optimizer": optax.adam(schedule(0.2))},
            "optimizer: the optimizer differs: by=0.1 then, 0.2 now",
        ),
        (
            {"augment": darker(0.5)},
            {"augment": darker(0.7)},
            "augment: the augment change differs: by=0.5 then, 0.7 now",
        ),
        (
            {"augment": Darker(0.5)},
            {"augment": Darker(0.7)},
            "augment: the augment Darker differs: by=0.5 then, 0.7 now",
        ),
        (
            {"augment": Own()},
            {"augment": Stronger()},
            "augment: the augment Stronger differs: Own then, Stronger now",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value[:0],
)
@pytest.mark.thorough
def test_what_differs_is_named(then: dict, now: dict, expected: str) -> None:
    was = identity(**then)
    assert said(was, identity(**now)) == expected
    assert said(was, identity(**then)) == ""


def test_the_trace_catches_what_no_part_shows() -> None:
    rates = SimpleNamespace(by=0.5)
    scripts = [{"rates": rates, "__name__": "script"} for _ in range(2)]
    for script in scripts:
        exec("def loss(l, y): return rates.by * l.sum(-1) + 0 * y", script)
    was = identity(loss=scripts[0]["loss"])
    rates.by = 0.25
    assert said(was, identity(loss=scripts[1]["loss"])) == (
        "step: a step computes something else although no named part differs ('0.5' 2 times then, "
        "0 now, '0.25' 0 times then, 2 now)"
    )


def test_frozen_layers_are_a_part_of_the_step() -> None:
    was = identity(frozen=("dense1",))
    found, _ = changes(was, identity())
    assert [change.part for change in found] == ["step"]


def test_code_that_computes_the_same_is_worth_a_remark() -> None:
    was = identity(loss=with_helper("x * x + x"))
    now = identity(loss=with_helper("(x * x) + (x)"))
    assert changes(was, now) == ([], [])  # not even that: the compiled code is equal
    now = identity(
        loss=written("loss", "def loss(l, y):\n k = l * l\n return (k + l).sum(-1) + 0 * y")
    )
    found, (remark,) = changes(was, now)
    assert found == []
    assert "differs (" in remark
    assert remark.endswith(", the computation of a step does not")


def test_code_may_be_allowed_where_nothing_given_to_it_differs() -> None:
    (code,), _ = changes(identity(loss=with_helper("x ** 2")), identity(loss=with_helper("x ** 4")))
    (constant,), _ = changes(identity(loss=focal(2.0)), identity(loss=focal(3.0)))
    assert [code.allowed_by((name,)) for name in ("loss", "code", "step")] == [True, True, False]
    assert [constant.allowed_by((name,)) for name in ("loss", "code")] == [True, False]


def test_another_version_cannot_be_compared_where_the_trace_differs() -> None:
    was = identity(loss=focal(2.0), optimizer=optax.adam(0.1))
    now = json.loads(json.dumps(was))
    now["environment"] |= {"jax": "99.0"}
    assert changes(was, now) == ([], [])  # the computation is equal all the same
    now["step"]["hash"] = "0"
    now["loss"]["code"] = "0"  # as another Python compiles it
    found, (remark,) = changes(was, now)
    assert found == []
    assert "could not be compared" in remark
    assert "jax " in remark
    # What was given can be compared whatever the versions.
    now["loss"]["closure"]["gamma"] = 3.0
    assert said(was, now) == "loss: the loss loss differs: gamma=2.0 then, 3.0 now"


@pytest.mark.parametrize(
    "settings",
    [{"checkpoint_every": 1, "keep": 3}, {"epochs": 9}, {"steps_per_dispatch": 2}, {"seed": 5}],
    ids=str,
)
def test_what_does_not_change_the_step_makes_no_other_identity(settings: dict) -> None:
    assert changes(identity(), identity(**settings)) == ([], [])


CHILD = """
import json, sys
from test_identity import *
parts = dict(module=Net(blocks=(Block(),)), loss=focal(2.0), augment=darker(0.5))
optimizer = optax.multi_transform({"a": optax.lion(1e-3), "b": optax.adam(schedule(0.1))},
                                  lambda tree: jax.tree.map(lambda leaf: "ab"[leaf.ndim > 1], tree))
print(json.dumps(identity(**parts, optimizer=optimizer)))
"""


@pytest.mark.thorough
def test_another_process_finds_the_same_identity() -> None:
    path = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {path!r})\n{CHILD}"
    children = [start("-c", code, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    first, second = (json.loads(child.communicate()[0]) for child in children)
    assert first == second


def fit(directory: Path, module: linen.Module | None = None, **given: Any) -> cj.Run:
    settings = given.pop("settings", {})
    model = (
        cj.Model.from_module(module, (4, 4, 1))
        if module
        else cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=CLASSES, units=(4,))
    )
    return cj.fit(
        model, few(), replace(CONFIG, **settings), directory=directory, verbose=False, **given
    )


AGAIN = {"resume": True, "epochs": 2}


def test_resuming_with_something_else_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(run, Net(0.5), optimizer=optax.lion(1e-3))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    wanted = (
        f"{run} holds a run that began otherwise: the module Net differs: dropout=0.5 then, 0.2 "
        "now; the optimizer differs: step_size=-0.001 then, -0.5 now: take what it began with, or "
        "go on all the same with allow_changed=('module', 'optimizer')"
    )
    with pytest.raises(RunError) as caught:
        fit(run, Net(0.2), optimizer=optax.lion(0.5), settings={"resume": True})
    assert str(caught.value) == wanted
    for allowed in (("module",), ("loss", "step", "code")):
        settings = {"resume": True, "allow_changed": allowed}
        with pytest.raises(RunError, match="the optimizer differs"):
            fit(run, Net(0.2), optimizer=optax.lion(0.5), settings=settings)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.thorough
def test_what_is_allowed_goes_on_and_is_recorded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(run, Net(0.5))
    allowed = {**AGAIN, "allow_changed": ("module",)}
    resumed = fit(run, Net(0.2), settings=allowed)
    assert len(resumed.history["epoch"]) == 2
    record = json.loads((run / "run.json").read_text())
    assert record["identity"]["module"]["fields"]["dropout"] == 0.5
    (again,) = record["resumed"]
    assert again["changed"] == ["the module Net differs: dropout=0.5 then, 0.2 now"]
    # From here on the run is that of the other module.
    fit(run, Net(0.2), settings={**AGAIN, "epochs": 3})
    with pytest.raises(RunError, match=r"dropout=0\.2 then, 0\.5 now"):
        fit(run, Net(0.5), settings={**AGAIN, "epochs": 4})
    # And a reproduction says so.
    model = cj.Model.from_module(Net(0.5), (4, 4, 1))
    found = cj.reproduce(run, few(), model, verbose=False)
    line = "the run was resumed with a change: the module Net differs: dropout=0.5 then, 0.2 now"
    assert line in found.circumstances


@pytest.mark.thorough
def test_a_loss_and_a_rate_of_another_name_may_be_allowed_too(tmp_path: Path) -> None:
    fit(tmp_path, loss=squared)
    for settings in ({}, {"learning_rate": 0.1}):
        with pytest.raises(RunError, match=r"holds a run (with other|that began otherwise)"):
            fit(tmp_path, loss=focal(2.0), settings={**AGAIN, **settings})
    changed = {**AGAIN, "learning_rate": 0.1, "allow_changed": ("loss", "optimizer", "step")}
    assert len(fit(tmp_path, loss=focal(2.0), settings=changed).history["epoch"]) == 2


@pytest.mark.thorough
def test_a_run_of_before_is_gone_on_with_and_says_what_it_cannot_tell(tmp_path: Path) -> None:
    fit(tmp_path)
    file = tmp_path / "run.json"
    record = json.loads(file.read_text())
    del record["identity"], record["caller"]
    file.write_text(sealed(record))
    text = "whether module, loss, optimizer and augmentation are the same cannot be checked"
    with pytest.warns(UserWarning, match=text):
        fit(tmp_path, settings=AGAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, settings={**AGAIN, "epochs": 3})  # that of the second process is known
    found = cj.reproduce(tmp_path, few(), verbose=False)
    assert any("was not recorded" in line for line in found.circumstances)


@pytest.mark.parametrize("identity", [7, [], {}, {"environment": {}}, {"step": {"hash": 1}}])
def test_a_damaged_identity_is_called_so(tmp_path: Path, identity: Any) -> None:
    fit(tmp_path)
    file = tmp_path / "run.json"
    record = json.loads(file.read_text())
    file.write_text(sealed({**record, "identity": identity}))
    with pytest.raises(RunError, match="is damaged: what it says of the step is no identity"):
        fit(tmp_path, settings=AGAIN)


@pytest.mark.sample(2)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_by_name_is_resumed(tmp_path: Path, optimizer: str) -> None:
    fit(tmp_path, settings={"optimizer": optimizer})
    fit(tmp_path, settings={**AGAIN, "optimizer": optimizer})


def test_who_called_is_recorded_and_another_commit_is_a_remark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(tmp_path / "run").directory
    assert run
    caller = json.loads((run / "run.json").read_text())["caller"]
    assert ROOT / caller["file"] == Path(__file__)
    assert len(caller["hash"]) == 16
    record = json.loads((run / "run.json").read_text())
    record["caller"] |= {"commit": "1234567890", "hash": "0123456789abcdef"}
    (run / "run.json").write_text(sealed(record))
    config = replace(CONFIG, **AGAIN)
    model = cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=CLASSES, units=(4,))
    cj.fit(model, few(), config, directory=run)
    out = capsys.readouterr().out
    assert "other than when the run began: the caller's code is another one (hash 0123" in out
    assert "commit 1234567890 then" in out


@pytest.mark.parametrize("name", ["modul", "weights", "", 3, None, "Loss"])
def test_an_unknown_name_is_refused_with_the_nearest(name: Any) -> None:
    with pytest.raises(ValueError, match="allow_changed must be one of module, loss") as caught:
        cj.TrainingConfig(resume=True, allow_changed=(name,))
    assert repr(name) in str(caught.value)
    if name == "modul":
        assert "did you mean 'module'?" in str(caught.value)


@pytest.mark.parametrize("names", ["module", 7, None])
def test_what_is_no_tuple_is_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="allow_changed must be a tuple of names"):
        cj.TrainingConfig(resume=True, allow_changed=names)


def test_it_would_be_ignored_without_resume() -> None:
    with pytest.raises(ValueError, match="is for a run that is resumed: give resume=True with it"):
        cj.TrainingConfig(allow_changed=("loss",))


@pytest.mark.thorough
def test_the_command_line_has_it(tmp_path: Path) -> None:
    arguments = ("-m", "experiments.quickstart", "--data", "digits", "--out", tmp_path / "run")
    done = python(*arguments, "--resume", "--allow-changed", "modul", status=1)
    assert "did you mean 'module'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = python("-m", "cnnjax", "reproduce", tmp_path, "--allow-changed", "x", status=2)
    assert all(name in done.stderr for name in CHANGEABLE)


HELPER = """
import jax.numpy as jnp
RATE = {rate}
def scaled(x):
    return {factor} * x
"""

SCRIPT = """
import json
from pathlib import Path
import helper
import numpy as np
import optax
from flax import linen
import cnnjax as cj

SETTINGS = {{"weight": {weight}}}

class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(helper.scaled(x.reshape(len(x), -1)))

def loss(logits, labels):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return SETTINGS["weight"] * helper.RATE * each

def train():
    x, y = np.arange(256, dtype=np.uint8).reshape(16, 4, 4, 1), np.arange(16) % 3
    model = cj.Model.from_module(Net(), (4, 4, 1))
    config = cj.TrainingConfig(epochs=1, batch_size=8, monitor=None, resume=Path("run").is_dir())
    cj.fit(model, (x, y), config, loss=loss, directory="run", verbose=False)

if __name__ == "__main__":
    train()
"""


OTHERWISE = """
import importlib, json, sys
import helper, script

script.train()  # its loss is called script.loss now, and was __main__.loss
for name, now in json.loads(sys.argv[1]):
    kept = open(f"{name}.py").read()
    open(f"{name}.py", "w").write(now)
    importlib.reload(helper), importlib.reload(script)
    try:
        script.train()
    except cj.runs.RunError as error:
        print(error)
    open(f"{name}.py", "w").write(kept)
"""


@pytest.mark.thorough
def test_another_file_of_the_callers_is_named_and_another_way_to_start_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "helper.py").write_text(HELPER.format(factor=2.0, rate=1.0))
    (tmp_path / "script.py").write_text(SCRIPT.format(weight=1.0))
    (tmp_path / "again.py").write_text(f"import cnnjax as cj\n{OTHERWISE}")
    python("-B", "script.py", cwd=tmp_path)
    changed = [
        ("helper", HELPER.format(factor=3.0, rate=1.0)),
        ("helper", HELPER.format(factor=2.0, rate=0.25)),
        ("script", SCRIPT.format(weight=0.5)),
    ]
    said = python("-B", "again.py", json.dumps(changed), cwd=tmp_path).stdout.splitlines()
    expected = [
        "module Net differs: the code of scaled",
        "loss loss differs: helper.RATE=1.0 then, 0.25 now",
        "loss loss differs: SETTINGS.weight=1.0 then, 0.5 now",
    ]
    assert len(said) == 3, said
    for line, wanted in zip(said, expected, strict=True):
        assert wanted in line


@pytest.mark.parametrize(
    "make",
    [
        lambda value: optax.inject_hyperparams(optax.adam)(learning_rate=value),
        lambda value: optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=value),
        lambda value: optax.add_noise(0.1, 0.5, key=int(100 * value)),
    ],
)
def test_what_an_optimiser_keeps_in_its_first_state_is_compared(make: Callable) -> None:
    then, now = (identity(optimizer=optax.chain(make(v), optax.sgd(1.0))) for v in (0.1, 0.2))
    found, _ = changes(then, now)
    assert [change.part for change in found] == ["optimizer"]


def test_packages_outside_of_the_environment_are_packages() -> None:
    folder = "/home/ada/.local/lib/python3.11"
    assert is_installed(f"{folder}/site-packages/nets/blocks.py")
    assert not is_installed("/home/ada/nets/blocks.py")
