"""Model: a Linen module, its variables and its spec, as one frozen value."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from flax import linen
from jax import Array

from cnnjax.core import rng
from cnnjax.core.checks import check_input_shape, sizes_text
from cnnjax.core.habits import missing
from cnnjax.core.html import html_table, paragraphs
from cnnjax.data import Vocabulary
from cnnjax.models.adapters import without_adapters
from cnnjax.models.functions import Functions, functions_of
from cnnjax.models.given_inputs import checked_inputs
from cnnjax.models.graph import layer_names
from cnnjax.models.initial import hashable, initialiser
from cnnjax.models.modules import (
    Static,
    Variables,
    abstract_variables,
    forward,
)
from cnnjax.models.spec import ModelSpec, output_facts
from cnnjax.models.validation import checked_names, checked_switches, output_shape
from cnnjax.task import Preprocessing, Task, any_task


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["module", "spec"]
)
@dataclass(frozen=True)
class Model:
    """A model as a value: a frozen pytree whose leaves are its variables.

    Args:
        module: the Linen module.
        variables: {"params": {layer: {weight: array}}, ...}, float32.
        spec: sizes, preprocessing, labels.

    Calling it with preprocessed [N, H, W, C] returns logits [N, num_classes].
    """

    module: linen.Module
    variables: Variables = dataclasses.field(repr=False)
    spec: ModelSpec

    @classmethod
    def from_module(
        cls,
        module: linen.Module,
        input_shape: Sequence[int | None] | Mapping[str, Sequence[int | None]],
        *,
        seed: int = 0,
        train_argument: str | Sequence[str] | Literal[False] | None = None,
        unswitched: Sequence[str] = (),
        preprocessing: Preprocessing | Mapping[str, Preprocessing] = "unit",
        label_names: Sequence[str] | Mapping[str, Sequence[str]] = (),
        task: str | Task | Mapping[str, str | Task] = "classes",
        vocabulary: Vocabulary | None = None,
    ) -> Model:
        """Make a model of any Linen module that maps [N, H, W, C] to logits [N, K].

        Args:
            module: its `__call__` takes the inputs and, if it needs it, a switch to training:
                `train`, `training`, `is_training` or `deterministic`, others by `train_argument`.
                Dropout draws from the stream "dropout", other random streams get keys too;
                collections beside "params" (BatchNorm's statistics) are kept up to date. The
                `axis_name` of a normalisation is not needed: statistics are the whole batch's.
            input_shape: (H, W, C); (T, C) or (T,) for a module of series or tokens. None stands for
                a height, width or length that may be any, where the module bears it: without
                resizing then, `predict` takes images as they are. {name: shape} for a module whose
                `__call__` takes a dictionary of several inputs by these names.
            seed: of the parameters.
            train_argument: name of the argument of `__call__` that switches training on, where it
                is another one, or a tuple of several. Which of True and False is training shows
                in BatchNorm and Dropout; where it does not, True is, or with "not " before the
                name False. False: there is no switch, and the module is to be the same in training
                (frozen BatchNorm, no dropout).
            unswitched: patterns of layers that are to stay in evaluation mode in training, though
                others are switched.
            preprocessing: from pixels in [0, 255] to inputs: "unit" (x / 255) or "none"; "tokens"
                where the inputs are token ids, int32 [N, T]; or a function of your own, float32
                [N, ...] as the data have it to what the module takes, of the same shape; or
                `cj.Inputs`, which can check more; {name: any of these} of several inputs.
            label_names: one name per class; {output: these} of several outputs.
            task: "classes"; "binary" where the outputs are one logit [N, 1] of yes or no;
                "multilabel" where any of K labels may hold; "values" where the outputs [N, K] are
                real numbers; "positions" where they are logits [N, P, K] of a class at each of P
                positions; "dense" where they are logits [N, H, W, K] of a class at each pixel; or a
                `cj.Task` of your own. {name: task} for a module that returns a dictionary of
                several outputs by these names: the loss is the sum of theirs.
            vocabulary: of "tokens": which word has which number; `predict` then takes texts.

        Returns:
            A Model, in every respect like those of `create_model`.

        Raises:
            ValueError: if the module does not take such inputs or return such logits, if a training
                would not reach its BatchNorm or Dropout, or would ignore a loss of its own.
        """
        input_shape = _sizes(input_shape)
        task = any_task(task)
        spec = ModelSpec(
            name=type(module).__name__,
            input_shape=input_shape,
            num_classes=0,
            preprocessing=preprocessing,
            task=task,
            positions=int(task.has_positions),  # how many is known below
            train_arguments=checked_names(module, train_argument),
        )
        spec = dataclasses.replace(
            spec,
            **output_facts(task, output_shape(module, spec)),
            label_names=label_names if isinstance(label_names, Mapping) else tuple(label_names),
            train_arguments=checked_switches(module, spec.sample(2), train_argument, unswitched),
            vocabulary=vocabulary,
        )
        return cls.initialise(module, spec, seed)

    @classmethod
    def from_nnx(cls, module: Any, input_shape: Sequence[int], **options: Any) -> Model:
        """Make a model of any NNX module (`flax.nnx`) that maps [N, H, W, C] to logits [N, K].

        Layers and variables have the module's own path names, as `nnx.state` has them, joined with
        "/": "layers/0/kernel". What is shared is there once, under the first of its names.

        Args:
            module: with the values of its variables, which become the model's, as they are; or its
                class or a function, which makes one of `nnx.Rngs` drawn from the seed.
                `module.train()` and `module.eval()` switch its mode, and switches that its
                `__call__` may have, as in `from_module`. Each random stream gets a key in each
                step of a training, and an argument `rngs` of `__call__` gets `nnx.Rngs`.
            input_shape: as in `from_module`.
            options: seed, train_argument (beside `module.train()`), unswitched, preprocessing,
                label_names, task, vocabulary: as in `from_module`.

        Returns:
            A Model, in every respect like those of `create_model`; the module stays as it was.

        Raises:
            ValueError: as `from_module`; for a module with a Linen one in it (`nnx.bridge.ToNNX`),
                or one that changes its parameters itself.

        >>> from flax import nnx
        >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu)
        >>> Model.from_nnx(net, (4,), preprocessing="none").layer_names
        ('layers/0',)
        """
        from cnnjax.models.nnx import as_linen, starting_as
        from cnnjax.models.nnx_changes import check_changes

        net = as_linen(module)
        if (names := options.get("train_argument")) is not None and names is not False:
            names = (names,) if isinstance(names, str) else tuple(names)
            options["train_argument"] = ("train", *(name for name in names if name != "train"))
        model = cls.from_module(starting_as(net, module), input_shape, **options)
        check_changes(net, model.spec)
        return dataclasses.replace(model, module=net)

    def to_nnx(self) -> Any:
        """The NNX module of a model of `from_nnx`, with the model's variables, to change it.

        Returns:
            A new module of the same class, in evaluation mode; adapters are merged.

        Raises:
            ValueError: for a model of another module.
        """
        from cnnjax.models.nnx import to_nnx

        return to_nnx(self.module, without_adapters(self).variables)

    @classmethod
    def initialise(
        cls,
        module: linen.Module,
        spec: ModelSpec,
        seed: int,
        only: frozenset[str] | None = None,
    ) -> Model:
        """Random variables from the seed.

        Args:
            module, spec: of the model.
            seed: of the parameters.
            only: paths ("params/conv1/kernel", ...) of the variables to compute; None computes all.
        """

        if hasattr(module, "drawn"):  # it draws them with code of its own
            return cls(module, module.drawn(seed), spec)
        key = rng.stream(seed, "parameters")
        traced = isinstance(key, jax.core.Tracer)
        initialised = initialiser(traced)(
            Static.of(module, spec), hashable(spec.sample()), only, key
        )
        if not traced:  # where memory does not suffice that is an error here, not an end later
            jax.block_until_ready(initialised)
        return cls(module, initialised, spec)

    @classmethod
    def abstract(cls, module: linen.Module, spec: ModelSpec) -> Model:
        """A model whose variables are only shapes; nothing is computed."""
        return cls(module, abstract_variables(Static.of(module, spec), spec), spec)

    @property
    def params(self) -> Variables:
        """The trainable variables."""
        return self.variables.get("params", {})

    @property
    def state(self) -> Variables:
        """The other collections, e.g. {"batch_stats": ...}."""
        return {k: v for k, v in self.variables.items() if k != "params"}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers as in `summary`, nested ones as "block/conv"."""
        return layer_names(self.static, self.spec)

    @property
    def static(self) -> Static:
        """The module and its switches, as a static argument of jit."""
        return Static.of(self.module, self.spec)

    def output_shape(self, input_shape: Any) -> Any:
        """The shape of one example's outputs, for inputs of that shape."""
        spec, shapes = self.spec, self.spec.output_shape
        each = shapes.values() if isinstance(shapes, Mapping) else [shapes]
        if not any(None in shape for shape in each):
            return shapes
        return output_shape(self.module, dataclasses.replace(spec, input_shape=input_shape))

    def __repr__(self) -> str:
        shape = sizes_text(self.spec.input_shape)
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.variables))
        outputs = sizes_text(self.spec.output_shape)
        return f"Model({self.spec.name}, {shape} -> {outputs}, {count:,} parameters)"

    def _repr_html_(self) -> str:
        from cnnjax.models.layers.summary import summary

        return paragraphs(repr(self)) + html_table(summary(self).cells(), "><<>")

    def replace(self, **changes: Any) -> Model:
        """A copy with other `variables` or another `spec`."""
        return dataclasses.replace(self, **changes)

    def __call__(self, inputs: Any) -> Any:
        """Logits of preprocessed inputs.

        Args:
            inputs: [N, H, W, C] float32, as `spec.preprocess` makes them.

        Returns:
            [N, num_classes], or what else its task has.

        Raises:
            ValueError: for another shape or dtype.
        """
        inputs = self.checked_inputs(inputs)
        return _apply(self.static, self.variables, inputs)

    def checked_inputs(self, inputs: Any) -> Any:
        """Preprocessed inputs as a JAX array, or the error that `__call__` documents."""
        return checked_inputs(self.spec, inputs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(missing(name))

    def functions(self, frozen: Sequence[str] = ()) -> Functions:
        """The model as pure functions of its variables, for a training step.

        Args:
            frozen: patterns of layers; their BatchNorm runs on its running averages.
        """
        return functions_of(self.static, self.spec.preprocess, tuple(frozen))


def _sizes(input_shape: Any) -> Any:
    """An input shape of whole numbers and None, or several by name."""
    if isinstance(input_shape, Mapping):
        return {name: _sizes(shape) for name, shape in input_shape.items()}
    check_input_shape(input_shape)
    return tuple(None if n is None else int(n) for n in input_shape)


@functools.partial(jax.jit, static_argnums=0)
def _apply(static: Static, variables: Variables, inputs: Array) -> Any:
    return forward(static, variables, inputs)
