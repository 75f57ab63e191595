"""What belongs to a model beside its weights: sizes, preprocessing, labels, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.core.checks import PIXELS, holds_pixels
from cnnjax.data import Vocabulary
from cnnjax.models.adapters import Adapters
from cnnjax.task import Inputs, JointTask, Task, any_task, as_inputs, named_inputs

# Sizes of one example, whole numbers; None stands for what may be any.
Size = tuple[Any, ...]

# Of one input or output, or {name: sizes} of several; typed loosely, since most have one.
Shapes = Any

# Of classes, one each; {output: these} of several; typed loosely, since most have one.
LabelNames = Any

# A height, width or length where any will do, as in a table of layers.
_USUAL_SIZE = 64


@dataclass(frozen=True)
class ModelSpec:
    """Facts about a model.

    Args:
        name: as in `create_model`, or the class of a user's module.
        input_shape: without the batch: (H, W, C) of images, (T, C) of series, (T,) of tokens; None
            for a height, width or length that may be any; {name: shape} of several inputs.
        arguments: what `create_model` built the module from; None for a user's own module.
        num_classes: size of the output; 1 for a single logit of two classes; 0 for features.
        preprocessing: name of what becomes of pixels in [0, 255]: "unit", "tf", "tf128",
            "caffe", "torch" or "none"; "tokens" for token ids, which stay as they are; or a
            function or Inputs of one's own; of several inputs {name: any of these}.
        task: what the outputs are, a Task or its name: "classes", logits [N, num_classes];
            "positions", logits [N, positions, num_classes] of a class at each position; "values",
            [N, num_classes] real numbers; "binary", "multilabel" and "dense" as `cj.Task` has them.
        positions: of a task that has them; 0 otherwise.
        output_sizes: shape of one example's outputs, where it is another one than (num_classes,) or
            (positions, num_classes), None in it for a size that follows that of the inputs; None
            otherwise; {name: shape} of several outputs.
        train_arguments: which arguments switch a user's module to training, where they have no
            usual name; "not " stands before one that is True in evaluation.
        vocabulary: which word has which number, of a model of texts; None where unknown.
        resize: how images of another size are brought to this one: "crop", "stretch" or "pad".
        interpolation: by which filter: "bilinear" or "nearest".
        crop: share of the side that "crop" keeps of an image of another size, in (0, 1]: below 1
            the image is resized to size / crop, and its middle cut out, as torchvision evaluates.
        label_names: one name per class, or () where unknown; {output: these} of several outputs.
        paper: where the architecture is described.
        min_size: smallest height and width of the inputs.
        cam_layer: whose maps Grad-CAM takes unless told otherwise; "" where there is no such.
        head: names of the layers that make logits of features, in their order.
        weights: name of the file that the parameters came from at first, with the library whose
            names it has; "" for random ones.
        adapters: low-rank ones beside some of the kernels, of `transfer.lora`; None without.
    """

    name: str
    input_shape: Shapes = field(hash=False)
    num_classes: int
    arguments: dict[str, Any] | None = field(default=None, hash=False)
    preprocessing: Any = field(default="unit", hash=False)
    resize: str = "crop"
    interpolation: str = "bilinear"
    label_names: LabelNames = field(default=(), hash=False)
    paper: str = ""
    min_size: int = 1
    cam_layer: str = ""
    head: tuple[str, ...] = ()
    weights: str = ""
    task: Task = "classes"  # type: ignore[assignment]  # a name becomes the task below
    positions: int = 0
    train_arguments: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, hash=False, repr=False)
    output_sizes: Shapes | None = field(default=None, hash=False)
    crop: float = 1.0
    adapters: Adapters | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", any_task(self.task))
        if isinstance(self.task, JointTask) and self.label_names:
            names = self.task.checked_names(self.label_names, self.output_sizes)
            object.__setattr__(self, "label_names", names)
        if isinstance(self.input_shape, Mapping):
            self._check_parts()
            return
        if callable(self.preprocessing):
            object.__setattr__(self, "preprocessing", as_inputs(self.preprocessing))
        if self.input_shape[1:] and self.input_shape[-1] is None:
            raise ValueError(
                f"input_shape={self.input_shape} must end in the number of channels: None is for "
                "heights, widths and lengths"
            )
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop must be in (0, 1], got {self.crop}")
        if (self.positions > 0) != self.task.has_positions:
            raise ValueError(
                f"positions={self.positions} does not fit task={self.task.name!r}: a number >= 1 "
                "is for 'positions', 0 for the others"
            )
        if self.inputs.rgb and self.input_shape[-1] != 3:
            raise ValueError(
                f"preprocessing={self.inputs.name!r} is for RGB, the model takes "
                f"{self.input_shape[-1]} channels: use preprocessing='unit' or 'none'"
            )
        if self.label_names and self.num_classes == 0:
            raise ValueError(
                "label_names are for a model with a head (include_top=True, or a classifier)"
            )
        one = not isinstance(self.task, JointTask)
        if one and self.label_names and len(self.label_names) != self.task.names(self.num_classes):
            raise ValueError(
                f"label_names has {len(self.label_names)} names, the model has "
                f"{self.num_classes} classes"
            )
        size = (self.arguments or {}).get("vocabulary_size")
        if self.vocabulary is not None and size not in (None, self.vocabulary.size):
            raise ValueError(
                f"vocabulary_size={size} does not fit the vocabulary, which has "
                f"{self.vocabulary.size} numbers: leave it out"
            )

    def _check_parts(self) -> None:
        """The checks of several inputs, each as if it were the only one."""
        if not self.input_shape or not all(isinstance(n, str) and n for n in self.input_shape):
            raise ValueError(f"input_shape must have names, each a text, got {self.input_shape!r}")
        given = self.preprocessing
        if not isinstance(given, Mapping):
            given = dict.fromkeys(self.input_shape, given)
        named_inputs(given, self.input_shape)
        each = {name: as_inputs(one) if callable(one) else one for name, one in given.items()}
        object.__setattr__(self, "preprocessing", each)
        if self.positions:
            raise ValueError("several inputs go with any task but 'positions'")
        self.parts  # noqa: B018  # each checks itself

    @property
    def parts(self) -> dict[str, ModelSpec]:
        """Of several inputs the facts about each, as of a single one; {} where there is one."""
        if not isinstance(self.input_shape, Mapping):
            return {}
        each, given = {}, self.preprocessing
        for name, shape in self.input_shape.items():
            words = self.vocabulary if as_inputs(given[name]).tokens else None
            each[name] = replace(
                self, input_shape=shape, preprocessing=given[name], vocabulary=words
            )
        return each

    @property
    def vocabulary_size(self) -> int | None:
        """How many numbers of words the model knows; None where it takes none, or cannot tell."""
        if self.vocabulary is not None:
            return self.vocabulary.size
        return (self.arguments or {}).get("vocabulary_size")

    def facts(self) -> dict[str, Any]:
        """The fields for a record in JSON; of the vocabulary its fingerprint alone."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        words = self.vocabulary.fingerprint if self.vocabulary else None
        if (adapters := values.pop("adapters")) is not None:
            values["adapters"] = asdict(adapters)
        return {
            **values,
            "preprocessing": {name: part.inputs.name for name, part in self.parts.items()}
            or self.inputs.name,
            "task": dict((name, task.name) for name, task in self.task.parts)
            if isinstance(self.task, JointTask)
            else self.task.name,
            "vocabulary": words,
        }

    @property
    def inputs(self) -> Inputs:
        """What the model is given, and what becomes of it."""
        if isinstance(self.input_shape, Mapping):
            return named_inputs(self.preprocessing, self.input_shape)
        return as_inputs(self.preprocessing)

    @property
    def takes_images(self) -> bool:
        """Whether the inputs are (H, W, C)."""
        return not isinstance(self.input_shape, Mapping) and len(self.input_shape) == 3

    @property
    def output_shape(self) -> Shapes:
        """Of one example's outputs: (K,), (P, K) of positions, (H, W, K) of pixels.

        {name: shape} of several outputs.
        """
        if self.output_sizes is not None:
            return self.output_sizes
        return (self.positions, self.num_classes) if self.positions else (self.num_classes,)

    @property
    def input_dtype(self) -> jnp.dtype:
        """int32 for tokens, float32 for all else."""
        return jnp.dtype(self.inputs.dtype)

    def sample(self, count: int = 1) -> Any:
        """Shape and dtype of so many preprocessed inputs; {name: these} of several."""
        if self.parts:
            return {name: part.sample(count) for name, part in self.parts.items()}
        return jax.ShapeDtypeStruct((count, *self.sample_shape), self.input_dtype)

    @property
    def takes_any_size(self) -> bool:
        """Whether height, width or length may be any."""
        if self.parts:
            return any(part.takes_any_size for part in self.parts.values())
        return None in self.input_shape

    @property
    def sample_shape(self) -> Shapes:
        """The input shape, with a usual number where any will do."""
        if self.parts:
            return {name: part.sample_shape for name, part in self.parts.items()}
        usual = max(_USUAL_SIZE, self.min_size)
        return tuple(usual if size is None else size for size in self.input_shape)

    def takes(self, shape: Any) -> bool:
        """Whether the model takes examples of a shape, {name: shape} of several inputs."""
        if self.parts or isinstance(shape, Mapping):
            return (
                isinstance(shape, Mapping)
                and set(shape) == set(self.parts)
                and all(part.takes(shape[name]) for name, part in self.parts.items())
            )
        return len(shape) == len(self.input_shape) and all(
            size in (None, n) for size, n in zip(self.input_shape, shape, strict=True)
        )

    def preprocess(self, images: Any, check: bool = True) -> Any:
        """Pixels to the model's inputs; the pixels stay as they are.

        Args:
            images: [..., C], uint8 or floating in [0, 255], or what else the preprocessing takes,
                also of 16 bits; for tokens whole numbers [N, T].
            check: refuse values, not of uint8, that show that they are no pixels.

        Returns:
            float32 of the same shape; of tokens int32.

        Raises:
            ValueError: for another dtype, or floating values that are no pixels in [0, 255] (not
                checked inside a compiled function, where there are no values).
        """
        if self.parts:
            by_name: Any = images
            return {
                name: part.preprocess(by_name[name], check) for name, part in self.parts.items()
            }
        array = jnp.asarray(images)
        if self.inputs.tokens:
            if not jnp.issubdtype(array.dtype, jnp.integer):
                raise ValueError(f"tokens must be whole numbers, got {array.dtype}")
            return array.astype(jnp.int32)
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        if not holds_pixels(array.dtype):
            raise ValueError(f"images must be {PIXELS}, got {array.dtype}")
        ranged = array.dtype != jnp.uint8 and not isinstance(array, jax.core.Tracer)
        if check and ranged and array.size:
            kind = "floating" if floating else str(array.dtype)
            self.inputs.check_range(float(array.min()), float(array.max()), "images", kind=kind)
        return self.inputs.preprocess(array.astype(jnp.float32))

    def check_words(self, low: int, high: int, what: str) -> None:
        """Refuse numbers of words that a model of texts has no vectors for.

        Args:
            low, high: smallest and largest number.
            what: the texts' name in the message.

        Raises:
            ValueError: for numbers outside [0, vocabulary_size).
        """
        size = self.vocabulary_size
        if low < 0 or (size is not None and high >= size):
            known = ">= 0" if size is None else f"in [0, {size})"
            raise ValueError(
                f"{what}: the words have numbers in [{low}, {high}], those that {self.name} knows "
                f"are {known}"
            )

    def label_name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.label_names[label] if self.label_names else str(label)


def output_facts(task: Task, outputs: Shapes) -> dict[str, Any]:
    """What a spec says of a model's outputs.

    Args:
        task: of the model.
        outputs: shape of those of one example.

    Returns:
        num_classes, positions and output_sizes.

    >>> output_facts(any_task("positions"), (5, 26))
    {'num_classes': 26, 'positions': 5, 'output_sizes': None}
    """
    count = task.count(outputs)
    positions = outputs[task.outputs.index("P") - 1] if task.has_positions else 0
    usual = (positions, count) if positions else (count,)
    sizes = None if outputs == usual else outputs
    return {"num_classes": count, "positions": positions, "output_sizes": sizes}
