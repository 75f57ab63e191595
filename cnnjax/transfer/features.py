"""Features of a whole data set, computed once and kept on disk."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core import trees
from cnnjax.core.checks import whole_number
from cnnjax.core.places import expanded
from cnnjax.core.storage import text_hash
from cnnjax.core.text import suggest
from cnnjax.data import Dataset, Loader, Splits, prefetch
from cnnjax.data.foreign.stream import check_at_hand
from cnnjax.explain.activations import layer_outputs
from cnnjax.models import Model
from cnnjax.models.backbone import POOLINGS
from cnnjax.training.data_checks import check_images
from cnnjax.transfer.store import FeatureFile, read_facts

Data = TypeVar("Data", Splits, Dataset)
Program = Callable[[Any, Array], Array]

_SAY_EVERY = 10.0  # seconds


def extract_features(
    model: Model,
    data: Data,
    directory: str | Path,
    layer: str | None = None,
    *,
    pooling: str | None = None,
    batch_size: int = 32,
    verbose: bool = True,
) -> Data:
    """Run a model once over every image, and keep what a layer makes of it.

    Training a classifier on the result costs a small part of training it behind the model, but
    the images cannot be augmented. What was computed before is opened, not computed again; what
    was interrupted goes on, and what was damaged is computed again, which the checksums tell when
    the files are opened. A change of weights, model, layer or data gives other files.

    Args:
        model: a backbone without a head, or any model with `layer`; what follows that layer is not
            computed.
        data: pixels in [0, 255], as the model is trained on; preprocessed on the device.
        directory: for the files, which are shared by all models, layers and data: made if needed.
        layer: one of `model.layer_names`; None takes the output of a model without a head.
        pooling: "avg" or "max" keeps only the mean or maximum of every map; None keeps the map.
        batch_size: images at a time, >= 1.
        verbose: say what is computed and how far it is.

    Returns:
        What `data` is, Splits or a Dataset: float32 features [N, h, w, C], vectors as [N, 1, 1, C],
        memory-mapped, with the same labels. Train on it with a model whose preprocessing is "none",
        e.g. `create_model("mlp", input_shape=features.train.input_shape, preprocessing="none")`.

    Raises:
        ValueError: if the data do not fit the model, or are of several sizes for one of any size;
            if there is no such layer.
        OSError: if the files cannot be written, as on a full disk; what was computed is kept.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet", input_shape=(18, 18, 1))
    >>> data = cj.data.from_arrays(np.zeros((5, 18, 18, 1), np.uint8), np.zeros(5, np.int32))
    >>> features = extract_features(model, data, "features", layer="pool1", verbose=False)
    >>> features.input_shape, features.name
    ((8, 8, 32), 'arrays, features of pool1 of mnist_convnet')
    """
    if not isinstance(data, Splits | Dataset):
        raise ValueError(
            f"data must be Splits or a Dataset, got {type(data).__name__}: "
            "cj.data.from_arrays(images, labels) makes one"
        )
    batch_size = whole_number("batch_size", batch_size)
    first = data.train if isinstance(data, Splits) else data
    work = _planned(_of_one_size(model, first.input_shape), layer, pooling, Path(directory))

    for part in (data.parts if isinstance(data, Splits) else {"": data}).values():
        check_at_hand(part, "extract_features")

    def features(part: Dataset) -> Dataset:
        images = work.file(part).open()
        if images is None:
            images = _compute(work, part, batch_size, print if verbose else _silent)
        return dataclasses.replace(part, inputs=images, name=f"{part.name}, {work.what}")

    if isinstance(data, Dataset):
        return features(data)  # type: ignore[return-value]
    parts = {name: features(part) for name, part in data.parts.items()}
    return Splits(parts["train"], parts.get("validation"), parts.get("test"))


@dataclass(frozen=True)
class _Work:
    """What is computed, and where it is kept.

    Args:
        model, pooling: as in `extract_features`.
        layer: whose output.
        shape: (h, w, C) of the features.
        folder: their place, which is another for whatever makes other features.
        facts: what decides about them, and layer and shape: features.json in the folder.
    """

    model: Model
    layer: str
    pooling: str | None
    shape: tuple[int, int, int]
    folder: Path
    facts: dict[str, Any]

    @property
    def what(self) -> str:
        """In words."""
        pooled = f", {self.pooling}" if self.pooling else ""
        return f"features of {self.layer} of {self.model.spec.name}{pooled}"

    @functools.cached_property
    def program(self) -> Program:
        """What computes a batch of them, compiled once for all parts."""
        return jax.jit(_program(self.model, self.layer, self.pooling))

    def file(self, part: Dataset) -> FeatureFile:
        """Where a part's features are."""
        return FeatureFile(self.folder, part.fingerprint, (len(part), *self.shape))


def _of_one_size(model: Model, shape: Any) -> Model:
    """A model of any size as one of the size of the data, on which that of its maps depends."""
    spec = model.spec
    if not (spec.takes_any_size and spec.takes(shape)):
        return model
    return model.replace(spec=dataclasses.replace(spec, input_shape=shape))


def _planned(model: Model, layer: str | None, pooling: str | None, directory: Path) -> _Work:
    spec = model.spec
    facts: dict[str, Any] = {
        "model": spec.name,
        "arguments": spec.arguments,
        "input_shape": spec.input_shape,
        "preprocessing": spec.inputs.name,
        "layer": layer,
        "pooling": pooling,
        "variables": trees.tree_hash(model.variables),
    }
    if spec.arguments is None:  # a module of one's own is known by what it computes
        program = _program(model, _checked_layer(model, layer), pooling)
        lowered = jax.jit(program).lower(model.variables, model.spec.sample())
        facts["program"] = text_hash(lowered.as_text())
    else:
        facts["code"] = _code_hash()
    folder = expanded(directory).absolute() / text_hash(json.dumps(facts, sort_keys=True))
    # Where these features were made before, layer and shape are known without tracing the model.
    if known := read_facts(folder, facts):
        return _Work(model, known["layer"], pooling, tuple(known["shape"]), folder, facts)
    layer = _checked_layer(model, layer)
    return _Work(model, layer, pooling, _shape(model, layer, pooling), folder, facts)


def _checked_layer(model: Model, layer: str | None) -> str:
    names, head = model.layer_names, model.spec.head
    if layer is None:
        if model.spec.num_classes == 0:
            return names[-1]
        before = names[: names.index(head[0])] if head else names[:-1]
        raise ValueError(
            f"{model.spec.name} has a head: layer must say whose output is meant, e.g. "
            f"{before[-1]!r}"
        )
    if layer not in names:
        raise ValueError(
            f"layer={layer!r} is no layer of {model.spec.name}. {suggest(layer, names, 'layers')}"
        )
    return layer


def _shape(model: Model, layer: str, pooling: str | None) -> tuple[int, int, int]:
    """(h, w, C) of the features."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")
    plain = jax.eval_shape(_program(model, layer), model.variables, model.spec.sample()).shape
    if len(plain) not in (2, 4):
        raise ValueError(
            f"layer={layer!r} of {model.spec.name} makes {list(plain)} of one image: features must "
            "be maps [N, h, w, C] or vectors [N, C]"
        )
    if len(plain) == 2 and pooling is not None:
        raise ValueError(
            f"pooling={pooling!r} needs maps, but layer={layer!r} of {model.spec.name} makes "
            f"vectors of {plain[1]}"
        )
    return (1, 1, plain[-1]) if len(plain) == 2 or pooling else (plain[1], plain[2], plain[3])


def _program(model: Model, layer: str, pooling: str | None = None) -> Program:
    """(variables, pixels [N, H, W, C]) -> the layer's output, float32, its maps pooled."""
    static, spec = model.static, model.spec

    def program(variables: Any, images: Array) -> Array:
        inputs = spec.preprocess(images)
        x = layer_outputs(static, spec.name, (layer,), variables, inputs)[layer]
        if pooling is not None:
            x = (jnp.mean if pooling == "avg" else jnp.max)(x, (1, 2))
        return x.astype(jnp.float32)

    return program


def _code_hash() -> str:
    """Of the files that decide what a registered model computes."""
    package = Path(__file__).parents[1]
    files = sorted(f for room in ("models", "nn") for f in (package / room).glob("*.py"))
    return text_hash("\n".join(f"{f.name}\n{f.read_text(encoding='utf-8')}" for f in files))


def _compute(work: _Work, data: Dataset, batch_size: int, say: Callable[[str], None]) -> np.ndarray:
    """Fill a part's file from where it stands."""
    check_images(work.model, data)
    file, began = work.file(data), time.perf_counter()
    say(f"{work.what}: {len(data):,} images of {data.name}, into {work.folder}")
    said = began
    recorded = file.recorded()
    with file.writing(data.labels, work.facts, work.layer) as writer:
        if writer.done < recorded:
            say(
                f"{file.path}: of {recorded:,} rows only the first {writer.done:,} are as they "
                "were written: the others are computed again"
            )
        if writer.done:
            say(f"going on at {writer.done:,} of {len(data):,}")
        start = writer.done // batch_size
        for number, rows in enumerate(_batches(work, data, batch_size, start), start):
            writer.write(number * batch_size, rows)
            now = time.perf_counter()
            if now - said > _SAY_EVERY:
                said = now
                say(f"{writer.done:,} of {len(data):,} after {now - began:.0f} s")
    images = file.open()
    if images is None:
        raise OSError(f"{file.path} cannot be read back: was it deleted?")
    return images


def _batches(work: _Work, data: Dataset, batch_size: int, start: int) -> Iterator[np.ndarray]:
    """Features batch by batch; the device computes one while the one before is written."""
    loader = Loader(data, batch_size)
    before: tuple[Array, int] | None = None
    for batch in prefetch(loader.epoch(0, start), threaded=loader.decodes):
        features = work.program(work.model.variables, batch["inputs"])
        after = features, int(np.sum(batch["mask"]))
        if before is not None:
            yield _rows(*before, work.shape)
        before = after
    if before is not None:
        yield _rows(*before, work.shape)


def _rows(features: Array, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """The first rows; the others are padding of the last batch."""
    return np.asarray(features)[:count].reshape(count, *shape)


def _silent(text: str) -> None:
    pass
