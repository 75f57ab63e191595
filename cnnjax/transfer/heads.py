"""Heads of one's own on the base of a model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax

from cnnjax.core import trees
from cnnjax.core.checks import whole_number
from cnnjax.models import Model, ModelSpec
from cnnjax.models.backbone import Backbone
from cnnjax.models.builder import build
from cnnjax.models.graph import trace
from cnnjax.task import Task

# What decides about the head of a backbone.
_HEAD_ARGUMENTS = ("include_top", "pooling", "classifier", "classifier_dropout")


@dataclass(frozen=True)
class Head:
    """A head: the features flattened or pooled, hidden layers with ReLU, dropout, logits.

    Args:
        num_classes: size of the output, >= 1; 1 is a single logit of two classes.
        units: widths of the hidden layers, named dense1, dense2, ...
        dropout: after each hidden layer, or where there are none of the features; in [0, 1).
        pooling: what is made of the last map: "flatten", "avg" (its mean), "max"; None: what the
            model makes of it, with a published head what that does (VGG flattens, others average).
        label_names: one name per class.
        task: what the logits mean, as in `create_model`, e.g. "multilabel"; None: what those of the
            model mean.
    """

    num_classes: int
    units: tuple[int, ...] = ()
    dropout: float = 0.0
    pooling: str | None = None
    label_names: tuple[str, ...] = ()
    task: str | Task | None = None

    def __post_init__(self) -> None:
        if self.pooling not in (None, "flatten", "avg", "max"):
            raise ValueError(
                f"pooling must be None, 'flatten', 'avg' or 'max', got {self.pooling!r}"
            )
        units = self.units
        if not isinstance(units, tuple | list):
            raise ValueError(f"units must be whole numbers >= 1, e.g. (256,), got {units!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout!r}")
        classes = whole_number("num_classes", self.num_classes)
        object.__setattr__(self, "num_classes", classes)
        object.__setattr__(self, "units", tuple(whole_number("units", width) for width in units))
        object.__setattr__(self, "label_names", tuple(self.label_names))


def replace_head(model: Model, head: Head | int, seed: int = 0) -> Model:
    """The same base with a new head.

    Args:
        model: of `create_model`, with or without a head.
        head: the new one; a number keeps the form of the head that is there and changes only its
            number of outputs (without one, logits on the features).
        seed: of the head's parameters, in [0, 2^32).

    Returns:
        A model whose variables outside the head are those of `model`, bitwise, and whose head is
        random.

    Raises:
        ValueError: for a module of one's own, a model with adapters, or a head that this model
            cannot have.

    >>> import cnnjax as cj
    >>> base = cj.create_model("mobilenet", alpha=0.25, include_top=False, pooling="avg",
    ...                        input_shape=(32, 32, 3))
    >>> model = replace_head(base, Head(2, units=(16,), dropout=0.5, label_names=("cat", "dog")))
    >>> model.spec.head, model.layer_names[-4:]
    (('dense1', 'logits'), ('global_average_pooling2d', 'dense1', 'dropout1', 'logits'))
    """
    if model.spec.arguments is None:
        raise ValueError(
            f"{model.spec.name} is a module of your own, whose head cnnjax cannot know: make "
            "new = cj.Model.from_module(...) with its new head, and give it the layers to keep: "
            "new.replace(variables={...})"
        )
    arguments = dict(model.spec.arguments)
    same_form = not isinstance(head, Head) and bool(model.spec.head)
    head = head if isinstance(head, Head) else Head(head)
    if not same_form:
        arguments = _arguments(model, head)
    module, spec = _built(model, arguments, head)
    if not spec.head:
        raise ValueError(f"{spec.name} made with {arguments} has no place for a head")
    shapes = trees.flatten(Model.abstract(module, spec).variables)
    new = frozenset(path for path in shapes if _layer(path) in spec.head)
    fresh = trees.flatten(Model.initialise(module, spec, seed, only=new).variables)
    return Model(module, _joined(shapes, trees.flatten(model.variables), fresh), spec)


def attach(base: Model, classifier: Model) -> Model:
    """Join a base and a classifier that was trained on its features into one model for photos.

    Args:
        base: a backbone, with or without a head; what follows its last map, or the pooling of that,
            is left out.
        classifier: an "mlp" with preprocessing="none", trained on what `extract_features` made of
            this base's last map, plain or pooled.

    Returns:
        The backbone with the classifier as its head: its logits for an image are those of the
        classifier for the image's features.

    Raises:
        ValueError: if the two do not fit together.
    """
    if not isinstance(base.module, Backbone) or base.spec.arguments is None:
        raise ValueError(f"base must be a backbone of create_model, got {base.spec.name}")
    if classifier.spec.name != "mlp" or classifier.spec.arguments is None:
        raise ValueError(
            f"classifier must be an 'mlp' of create_model, got {classifier.spec.name}: only its "
            "layers have their places in a backbone's head"
        )
    if classifier.spec.inputs.name != "none":
        raise ValueError(
            "classifier must take features as they are, preprocessing='none', got "
            f"{classifier.spec.inputs.name!r}"
        )
    mlp: Any = classifier.module
    head = Head(
        classifier.spec.num_classes,
        units=mlp.units,
        dropout=mlp.dropout,
        pooling=_pooling_between(base, classifier.spec.input_shape),
        label_names=classifier.spec.label_names,
        task=classifier.spec.task,
    )
    module, spec = _built(base, _arguments(base, head), head)
    shapes = trees.flatten(Model.abstract(module, spec).variables)
    theirs = trees.flatten(classifier.variables)
    return Model(module, _joined(shapes, trees.flatten(base.variables), theirs), spec)


def _built(model: Model, arguments: dict[str, Any], head: Head) -> tuple[Any, ModelSpec]:
    """Module and spec of a registered model with another head."""
    old = model.spec
    if old.adapters is not None:
        raise ValueError(
            f"{old.name} has adapters, which belong to the kernels that it has: give it its head "
            "before cj.transfer.lora, or merge them with cj.transfer.merged(model)"
        )
    module, spec = build(
        old.name,
        input_shape=old.input_shape,
        num_classes=head.num_classes,
        label_names=head.label_names,
        preprocessing=old.preprocessing,
        vocabulary=old.vocabulary,
        task=head.task or old.task,
        **arguments,
    )
    kept = {k: getattr(old, k) for k in ("resize", "interpolation", "crop", "weights")}
    return module, dataclasses.replace(spec, **kept)


def _arguments(model: Model, head: Head) -> dict[str, Any]:
    """What `create_model` makes the model with this head of."""
    arguments = dict(model.spec.arguments or {})
    if not isinstance(model.module, Backbone):
        if head.units or head.dropout or head.pooling:
            raise ValueError(
                f"{model.spec.name} is no backbone, so of its head only the number of classes can "
                f"be changed: replace_head(model, {head.num_classes})"
            )
        return arguments
    pooling = _own_pooling(model.module) if head.pooling is None else head.pooling
    arguments = {k: v for k, v in arguments.items() if k not in _HEAD_ARGUMENTS}
    arguments |= {"include_top": False, "classifier": head.units}
    if pooling != "flatten":
        arguments["pooling"] = pooling
    if head.dropout:
        arguments["classifier_dropout"] = head.dropout
    return arguments


def _own_pooling(module: Backbone) -> str:
    pooling = module.top_pooling if module.include_top else module.pooling
    return pooling or "flatten"


def _pooling_between(base: Model, shape: tuple[int, ...]) -> str:
    """What leads from the last map of a base to a classifier's inputs."""
    kept = {k: v for k, v in (base.spec.arguments or {}).items() if k not in _HEAD_ARGUMENTS}
    module, spec = _built(base, {**kept, "include_top": False}, Head(1))
    last = trace(Model.abstract(module, spec))[-1].output_shape[1:]
    own = _own_pooling(base.module)  # type: ignore[arg-type]
    if shape == (1, 1, last[-1]) and own != "flatten":
        return own
    if shape == last:
        return "flatten"
    raise ValueError(
        f"classifier takes features of shape {list(shape)}, but the last map of {spec.name} is "
        f"{list(last)}"
        + (": create the base with pooling='avg' or 'max'" if shape[-1] == last[-1] else "")
    )


def _joined(
    shapes: dict[str, Any], kept: dict[str, jax.Array], head: dict[str, jax.Array]
) -> dict[str, Any]:
    """The variables that a model needs, those of the head and the others kept."""
    found = {path: head[path] if path in head else kept[path] for path in shapes}
    for path, array in found.items():
        if array.shape != shapes[path].shape:
            raise ValueError(
                f"{path} has the shape {list(array.shape)}, {list(shapes[path].shape)} is needed"
            )
    return trees.unflatten(found)


def _layer(path: str) -> str:
    """Of "params/conv1/kernel": "conv1"."""
    return path.partition("/")[2].rpartition("/")[0]
