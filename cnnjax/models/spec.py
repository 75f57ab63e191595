"""What belongs to a model beside its weights: sizes, preprocessing, labels, where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.data import Vocabulary
from cnnjax.metrics import TASKS


def unit(images: Array) -> Array:
    """RGB or grey in [0, 255] to [0, 1]: x / 255."""
    return images / 255.0


def none(images: Array) -> Array:
    """No change: for data that is already what the model wants."""
    return images


def tf(images: Array) -> Array:
    """RGB in [0, 255] to [-1, 1]: x / 127.5 - 1 (InceptionV3, Xception, MobileNet)."""
    return images / 127.5 - 1.0


def caffe(images: Array) -> Array:
    """RGB in [0, 255] to BGR less ImageNet's mean (103.939, 116.779, 123.68) (VGG, ResNet50)."""
    return images[..., ::-1] - _row(_BGR_MEAN, images)


def torch(images: Array) -> Array:
    """RGB in [0, 255] to (x / 255 - mean) / deviation, with torchvision's of ImageNet."""
    return (images / 255.0 - _row(_RGB_MEAN, images)) / _row(_RGB_DEVIATION, images)


def _row(values: tuple[float, ...], images: Array) -> Array:
    """One value per channel, of the images' rank."""
    return jnp.array(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


_BGR_MEAN = (103.939, 116.779, 123.68)
_RGB_MEAN, _RGB_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Numbers of words: the only inputs that are whole numbers to the model too.
TOKENS = "tokens"

PREPROCESSING: dict[str, Callable[[Array], Array]] = {
    "unit": unit,
    "none": none,
    TOKENS: none,
    "tf": tf,
    "caffe": caffe,
    "torch": torch,
}

_RGB_ONLY = ("caffe", "torch")


@dataclass(frozen=True)
class ModelSpec:
    """Facts about a model.

    Args:
        name: as in `create_model`, or the class of a user's module.
        input_shape: without the batch: (H, W, C) of images, (T, C) of series, (T,) of tokens.
        arguments: what `create_model` built the module from; None for a user's own module.
        num_classes: size of the output; 1 for a single logit of two classes; 0 for features.
        preprocessing: name of the function from pixels in [0, 255] to inputs: "unit", "tf",
            "caffe", "torch" or "none"; "tokens" for numbers of words, which stay as they are.
        task: what the output is: "classes", logits [N, num_classes]; "positions", logits
            [N, positions, num_classes] of a class at each position; "values", [N, num_classes]
            real numbers.
        positions: of the task "positions"; 0 otherwise.
        train_arguments: which arguments switch a user's module to training, where they have no
            usual name; "not " stands before one that is True in evaluation.
        vocabulary: which word has which number, of a model of texts; None where unknown.
        resize: how images of another size are brought to this one: "crop", "stretch" or "pad".
        interpolation: by which filter: "bilinear" or "nearest".
        label_names: one name per class, or () where unknown.
        paper: where the architecture is described.
        min_size: smallest height and width of the inputs.
        cam_layer: whose maps Grad-CAM takes unless told otherwise; "" where there is no such.
        head: names of the layers that make logits of features, in their order.
        weights: name of the file that the parameters came from at first; "" for random ones.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    arguments: dict[str, Any] | None = field(default=None, hash=False)
    preprocessing: str = "unit"
    resize: str = "crop"
    interpolation: str = "bilinear"
    label_names: tuple[str, ...] = ()
    paper: str = ""
    min_size: int = 1
    cam_layer: str = ""
    head: tuple[str, ...] = ()
    weights: str = ""
    task: str = "classes"
    positions: int = 0
    train_arguments: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if (self.positions > 0) != (self.task == "positions"):
            raise ValueError(
                f"positions={self.positions} does not fit task={self.task!r}: a number >= 1 is for "
                "'positions', 0 for the others"
            )
        if self.preprocessing not in PREPROCESSING:
            raise ValueError(
                f"preprocessing must be one of {', '.join(PREPROCESSING)}, "
                f"got {self.preprocessing!r}"
            )
        if self.preprocessing in _RGB_ONLY and self.input_shape[-1] != 3:
            raise ValueError(
                f"preprocessing={self.preprocessing!r} is for RGB, the model takes "
                f"{self.input_shape[-1]} channels: use preprocessing='unit' or 'none'"
            )
        if self.label_names and self.num_classes == 0:
            raise ValueError(
                "label_names are for a model with a head (include_top=True, or a classifier)"
            )
        if self.label_names and len(self.label_names) != max(self.num_classes, 2):
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

    @property
    def vocabulary_size(self) -> int | None:
        """How many numbers of words the model knows; None where it takes none, or cannot tell."""
        if self.vocabulary is not None:
            return self.vocabulary.size
        return (self.arguments or {}).get("vocabulary_size")

    def facts(self) -> dict[str, Any]:
        """The fields for a record in JSON; of the vocabulary its fingerprint alone."""
        values = asdict(replace(self, vocabulary=None))
        if self.vocabulary is not None:
            values["vocabulary"] = self.vocabulary.fingerprint
        return values

    @property
    def input_dtype(self) -> jnp.dtype:
        """int32 for tokens, float32 for all else."""
        return jnp.dtype(jnp.int32 if self.preprocessing == TOKENS else jnp.float32)

    def sample(self, count: int = 1) -> jax.ShapeDtypeStruct:
        """Shape and dtype of so many preprocessed inputs."""
        return jax.ShapeDtypeStruct((count, *self.input_shape), self.input_dtype)

    def preprocess(self, images: Array, check: bool = True) -> Array:
        """Pixels to the model's inputs; the pixels stay as they are.

        Args:
            images: [..., C], uint8 or floating in [0, 255]; for tokens whole numbers [N, T].
            check: refuse floating values that show that they are no pixels.

        Returns:
            float32 of the same shape; of tokens int32.

        Raises:
            ValueError: for another dtype, or floating values that are no pixels in [0, 255] (not
                checked inside a compiled function, where there are no values).
        """
        array = jnp.asarray(images)
        if self.preprocessing == TOKENS:
            if not jnp.issubdtype(array.dtype, jnp.integer):
                raise ValueError(f"tokens must be whole numbers, got {array.dtype}")
            return array.astype(jnp.int32)
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        if array.dtype != jnp.uint8 and not floating:
            raise ValueError(f"images must be uint8 or floating, got {array.dtype}")
        if check and floating and array.size and not isinstance(array, jax.core.Tracer):
            self.check_pixels(float(array.min()), float(array.max()), "images")
        return PREPROCESSING[self.preprocessing](array.astype(jnp.float32))

    def check_pixels(self, low: float, high: float, what: str, *, one: bool = False) -> None:
        """Refuse floating images whose range shows that they are no pixels in [0, 255].

        Args:
            low, high: smallest and largest value.
            what: the images' name in the message.
            one: whether this is one image of several, which may be as dark as it likes.

        Raises:
            ValueError: for values outside [0, 255], or all within [0, 1].
        """
        inside = low >= 0 and high <= 255  # NaN is not
        if self.preprocessing != "none" and (not inside or (not one and 0 < high <= 1)):
            raise ValueError(
                f"{what}: floating images must be pixels in [0, 255], these lie in "
                f"[{low:g}, {high:g}]: scale them back, or use a model with preprocessing='none'"
            )

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
