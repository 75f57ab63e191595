"""Verbs about models and what they predict: list, summary, predict, export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from cnnjax.cli.options import ModelOptions, ModelSource, whole_numbers
from cnnjax.cli.running import say, show
from cnnjax.cli.texts import print_answers, takes_texts
from cnnjax.cli.verb import Verb
from cnnjax.core.places import Place
from cnnjax.core.table import table


@dataclass(frozen=True)
class List(Verb):
    """The models."""

    def run(self) -> None:
        """Print them."""
        from cnnjax.models.listing import ALIGNMENT, listing

        print(table(listing(), ALIGNMENT, rules=(1,)))


@dataclass(frozen=True, kw_only=True)
class Summary(ModelOptions, Verb):
    """Layer table of a model, a saved model or a run."""

    model: Annotated[Positional[Place], arg(metavar="MODEL")]
    """A name from `cnnjax list`, or a directory."""

    def run(self) -> None:
        """Print it."""
        import cnnjax as cj
        from cnnjax.models.builder import build

        if Path(self.model).is_dir():
            self.refuse(self.model)
            print(cj.summary(cj.load(self.model)))
            return
        # Only shapes are needed: the random weights of a large net take their time.
        print(cj.summary(cj.Model.abstract(*build(self.model, **self.arguments(self.model)))))


@dataclass(frozen=True, kw_only=True)
class Predict(ModelSource, Verb):
    """Classify image files, or texts."""

    files: Annotated[Positional[tuple[Place, ...]], arg(metavar="[RUN] IMAGE")]
    """A run directory or a saved model, unless --model names one; then image files: JPEG, PNG,
    WebP, GIF, ...; of a run of texts, .txt files."""
    text: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """For a run of texts, instead of images or beside .txt files; may be given again."""
    top: int = 1
    """Classes to name per image."""
    resize: Literal["crop", "stretch", "pad"] | None = None
    """How images come to the model's size; default: the model's own way, mostly crop."""
    invert: bool = False
    """Swap dark and light: dark ink on paper for a model of light digits on black."""

    def run(self) -> None:
        """Print a line for each file."""
        import cnnjax as cj

        cj.configure_runtime()
        model, files = self.load_for(self.files)
        if takes_texts(model, self, ("resize", "invert")):
            print_answers(model, files, self.text, self.top)
            return
        if self.resize:
            model = model.replace(spec=replace(model.spec, resize=self.resize))
        if not model.spec.takes_images:
            raise ValueError(
                f"{model.spec.name} takes no images, but arrays {list(model.spec.input_shape)}: in "
                "Python, cj.predict(cj.load(RUN), arrays)"
            )
        readable, images, missing = _read(files, model.spec.input_shape[2], self.invert)
        if images:
            print(table(zip(readable, _answers(model, images, self.top), strict=True), "<"))
            size = model.spec.input_shape[:2]
            if None not in size and any(image.shape[:2] != size for image in images):
                how = cj.data.RESIZE_POLICIES[model.spec.resize]
                show(f"# images were brought to {size[0]}x{size[1]} by {how}")
        if missing:
            raise cj.data.UnreadableImage("; ".join(missing))


@dataclass(frozen=True, kw_only=True)
class Export(Verb):
    """Write a model as a file that other programs run without cnnjax.

    Preprocessing, weights and class names are inside. The file is run, and its outputs compared
    with the model's, before it takes its place.
    """

    directory: Annotated[Positional[Place], arg(metavar="RUN")]
    """A run directory or a saved model."""
    file: Annotated[Positional[Place], arg(metavar="FILE")]
    """Ends with .onnx, for onnxruntime and others, or .stablehlo, for JAX."""
    batch: Annotated[int | None, arg(metavar="INT")] = None
    """Examples at a time; default: any number."""
    logits: bool = False
    """Outputs as they are before they become probabilities."""
    dtype: Literal["float32", "uint8"] = "float32"
    """Of the pixels that it takes."""
    size: Annotated[tuple[int, int] | None, whole_numbers("H W")] = None
    """Of the images, for a model that takes any; default: any, where that is possible."""

    def run(self) -> None:
        """Write it, and print what it takes and gives."""
        import cnnjax as cj

        cj.configure_runtime()
        model = ModelSource().load(self.directory)
        if self.size and not model.spec.takes_images:
            raise ValueError(f"--size is for images, and {model.spec.name} takes none")
        show(
            cj.export(
                model,
                self.file,
                batch="b" if self.batch is None else self.batch,
                logits=self.logits,
                dtype=self.dtype,
                input_shape=(*self.size, model.spec.input_shape[2]) if self.size else None,
            )
        )


def _read(files: list[str], channels: int, invert: bool) -> tuple[list[str], list[Any], list[str]]:
    """The files that can be read, their images, and an error for each of the others."""
    from cnnjax import data

    readable, images, missing = [], [], []
    for name in files:
        try:
            image = data.read_image(name, channels)
        except data.UnreadableImage as error:
            missing.append(str(error))
            continue
        readable.append(name)
        images.append(255 - image if invert else image)
    return readable, images, missing


def _answers(model: Any, images: list[Any], top: int) -> list[str]:
    """A line for each image: the best classes with their probabilities, or what the task says."""
    import cnnjax as cj

    spec, probs = model.spec, cj.predict(model, images)
    if spec.positions or not spec.task.of_classes:
        if top != 1:
            raise ValueError(
                f"--top is for one class an image, and {spec.name} reads {spec.positions} symbols"
                if spec.positions
                else f"--top is for classes, and the task of {spec.name} is {spec.task.name!r}"
            )
        return spec.task.decode(probs, spec.label_names)
    names = model.spec.label_names or _numbers_without_names(model.spec.num_classes)
    decoded = cj.decode_predictions(probs, top, names)
    return ["  ".join(f"{label} {prob:.4f}" for _, label, prob in best) for best in decoded]


def _numbers_without_names(num_classes: int) -> tuple[str, ...]:
    """() where classes can be named; their numbers, and a word why, where ImageNet's cannot be."""
    from cnnjax.models.imagenet import IMAGENET_CLASSES, class_names

    if num_classes == IMAGENET_CLASSES:
        try:
            class_names()
        except OSError as error:
            say(f"classes have numbers instead of names: {error}")
            return tuple(map(str, range(num_classes)))
    return ()
