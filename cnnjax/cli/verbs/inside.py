"""Verbs that draw what is inside a model: activations, filters, gradcam, explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from cnnjax.cli.options import ModelSource, warnings_as_lines
from cnnjax.cli.running import say, show
from cnnjax.cli.texts import read_texts, takes_texts
from cnnjax.cli.verb import INSIDE, Verb
from cnnjax.core.places import Place
from cnnjax.core.table import table


@dataclass(frozen=True, kw_only=True)
class _Look(ModelSource):
    """Which model to look into, and where its images go."""

    allow_partial: bool = False
    """Take what the file of --weights has; the rest is random, and listed."""
    out: Annotated[Place | None, arg(metavar="DIR")] = None
    """Default: figures/ in RUN, whose report shows them, or here."""

    def folder(self, run: str | None) -> Path:
        """Where images go: --out, or figures/ in the run or, where a model is named, here."""
        if self.out:
            return Path(self.out)
        from cnnjax.runs.contents import FIGURES

        return Path(FIGURES) if self.model else Path(str(run)) / FIGURES

    def show(self, run: str | None, images: Sequence[Path]) -> None:
        """Say where the images are; those among a run's figures go into its report."""
        from cnnjax.runs import write_report
        from cnnjax.runs.contents import REPORT_FILE

        for image in images:
            show(image)
        if not self.model and not self.out and (Path(str(run)) / REPORT_FILE).is_file():
            show(write_report(str(run)))


@dataclass(frozen=True, kw_only=True)
class _LookAtImages(_Look):
    """Which model to look into, for which images."""

    files: Annotated[Positional[tuple[Place, ...]], arg(metavar="[RUN] IMAGE")]
    """A run directory or a saved model, unless --model names one; then image files."""


@dataclass(frozen=True, kw_only=True)
class _Maps(_LookAtImages):
    """How class activation maps are made and drawn."""

    layer: Annotated[str | None, arg(metavar="LAYER")] = None
    """Of the class activation maps; default: the model's last with maps."""
    colormap: str = "jet"
    """One of matplotlib: viridis, turbo, ...."""


@dataclass(frozen=True, kw_only=True)
class Activations(_LookAtImages, Verb, task=INSIDE):
    """Draw the feature maps of layers for images."""

    layers: Annotated[tuple[str, ...] | None, arg(metavar="PATTERN")] = None
    """Names or patterns, e.g. 'block1_*'; default: the first 8 layers with maps."""
    raw: bool = False
    """Show the values on a common scale; default: each map normalised for itself."""

    def run(self) -> None:
        """Draw them, and print the shares of zeros and dead maps."""
        import cnnjax as cj
        from cnnjax import plot

        cj.configure_runtime()
        folder = self.folder(self.files[0])
        model, files = self.load_for(self.files, head=False)
        found, images = plot.draw_activations(model, files, folder, self.layers, self.raw)
        head = ("layer", "zeros", "dead maps", "dead for all images")
        rows = [
            (name, *(f"{share:.3f}" for share in (r.zeros, r.dead_maps, r.dead_for_all)))
            for name, r in found.items()
        ]
        print(table([head, *rows]))
        self.show(self.files[0], images)


@dataclass(frozen=True, kw_only=True)
class Filters(_Look, Verb, task=INSIDE):
    """Draw patterns that excite filters, or classes."""

    directory: Annotated[Positional[Place | None], arg(metavar="RUN")] = None
    """A run directory or a saved model, unless --model names one."""
    layer: Annotated[str | None, arg(metavar="LAYER")] = None
    """Whose filters: a name from `cnnjax summary`."""
    classes: Annotated[tuple[str, ...] | None, arg(metavar="CLASS")] = None
    """Instead of --layer: numbers or names; draw what the model takes for these classes."""
    filters: Annotated[tuple[int, ...] | None, arg(metavar="N")] = None
    """Numbers; default: the first 64."""
    recipe: Annotated[str | None, arg(metavar="NAME")] = None
    """classic: ascent on the pixels, after the activation; fourier: on Fourier coefficients,
    before it, for clearer images; default: classic, for classes fourier."""
    size: Annotated[int | None, arg(metavar="INT")] = None
    """Of a filter's pattern; default: 64."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Of the ascent; default: 40, for classes 256."""
    seed: Annotated[int | None, arg(metavar="INT")] = None
    """Of the noise it begins with; default: 0."""

    def run(self) -> None:
        """Draw them."""
        import cnnjax as cj
        from cnnjax import plot
        from cnnjax.explain.filters import describe_dead

        cj.configure_runtime()
        if bool(self.directory) == bool(self.model):
            raise ValueError("give either a RUN or --model, the model to look into")
        if bool(self.layer) == bool(self.classes):
            raise ValueError("give either --layer or --classes, what the patterns are to excite")
        names = ("filters", "size", "steps", "seed", "recipe")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        wrong = [f"--{name}" for name in ("filters", "size") if name in given and self.classes]
        if wrong:
            raise ValueError(f"{wrong[0]} is for the filters of a --layer, not for --classes")
        folder = self.folder(self.directory)
        model = self.load(self.directory, head=bool(self.classes))
        if self.layer is None:
            classes = [_class(text) for text in self.classes or ()]
            found, image = plot.draw_classes(model, classes, folder, **given)
            dead = describe_dead(model.spec.name, found.dead, "class")
        else:
            found, image = plot.draw_filters(model, self.layer, folder, **given)
            dead = describe_dead(self.layer, found.dead)
        if found.dead:
            say(f"warning: {dead}")
        self.show(self.directory, [image])


@dataclass(frozen=True, kw_only=True)
class Gradcam(_Maps, Verb, task=INSIDE):
    """Draw where images hold what speaks for a class."""

    target: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(metavar="CLASS ...")] = ()
    """Numbers or names; several are drawn side by side; default: the class predicted."""
    resize: Literal["crop", "stretch", "pad"] | None = None
    """How images come to the model's size: default: as a whole, the model's own way or, where that
    is crop, pad."""

    def run(self) -> None:
        """Draw it, and print the classes."""
        import cnnjax as cj
        from cnnjax import plot

        cj.configure_runtime()
        folder = self.folder(self.files[0])
        model, files = self.load_for(self.files)
        targets = [_class(text) for texts in self.target for text in texts]
        own = model.spec.resize
        chosen = self.resize or ("pad" if own == "crop" else own)
        model = model.replace(spec=replace(model.spec, resize=chosen))
        with warnings_as_lines():
            images, asked = plot.draw_gradcam(
                model, files, folder, self.layer, targets, self.colormap
            )
        head = ("image", "class", "probability", "layer")
        rows = [(h.photo, h.label, f"{h.probability:.4f}", h.layer) for h in asked]
        print(table([head, *rows], "<<><"))
        why = "the class asked for" if targets else "the class predicted"
        show(
            f"# Grad-CAM explains {why}; other shapes were brought to the model's by {_by(chosen)}"
        )
        self.show(self.files[0], images)


@dataclass(frozen=True, kw_only=True)
class Explain(_Maps, Verb, task=INSIDE):
    """Draw a panel of methods, and test what they are worth."""

    text: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """For a run of texts, instead of images or beside .txt files; may be given again."""
    target: Annotated[str | None, arg(metavar="CLASS")] = None
    """Default: the class predicted."""
    methods: Annotated[tuple[str, ...] | None, arg(metavar="METHOD")] = None
    """Functions of cnnjax.explain, e.g. grad_cam saliency occlusion; default: all but those that
    need hundreds of passes, score_cam and rise."""
    sanity: bool = False
    """Randomise the weights from the top; delete and insert what is hot; print the tables."""
    box: Annotated[
        UseAppendAction[tuple[tuple[str, str, str, str, str], ...]],
        arg(metavar="CLASS X0 Y0 X1 Y1"),
    ] = ()
    """Around an object of a single image, in its pixels: print whether the maps for the class
    point at it; may be given again."""

    def run(self) -> None:
        """Draw it, and print what was asked for."""
        import cnnjax as cj
        from cnnjax import plot

        cj.configure_runtime()
        folder = self.folder(self.files[0])
        model, files = self.load_for(self.files)
        target = None if self.target is None else _class(self.target)
        if takes_texts(model, self, ("methods", "sanity", "box")):
            texts = read_texts(files, self.text)
            with warnings_as_lines():
                show(plot.draw_words(model, texts, folder, self.layer, target))
            return
        if self.box and len(files) != 1:
            raise ValueError(f"--box is for a single photo, got {len(files)}")
        boxes = [(_class(name), _whole_numbers(corners)) for name, *corners in self.box]
        with warnings_as_lines():
            images, maps = plot.draw_methods(
                model, files, folder, self.layer, target, self.methods, self.colormap
            )
            if self.sanity:
                more, tables = plot.draw_sanity(model, files, folder, maps, self.layer, target)
                images += more
                print(tables + "\n")
            if boxes:
                table = plot.pointing_table(model, files[0], boxes, self.layer, self.methods)
                print(table + "\n")
        self.show(self.files[0], images)


def _by(policy: str) -> str:
    from cnnjax.data import RESIZE_POLICIES

    return RESIZE_POLICIES[policy]


def _class(text: str) -> int | str:
    """A class by number or by name."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def _whole_numbers(texts: Sequence[str]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise ValueError(f"--box needs four whole numbers after the class, got {' '.join(texts)}")
    return tuple(map(int, texts))
