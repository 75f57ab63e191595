"""Actions of the verb data that look at data sets, folders and files: scan, info, show."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cnnjax.cli.options import DataDirectory
from cnnjax.cli.running import say, show
from cnnjax.cli.verb import DATA, Verb
from cnnjax.core.places import Place
from cnnjax.core.text import counted

# Letters of a text that are printed.
_BEGINNING = 300

_FILES_A_TICK = 64


@dataclass(frozen=True)
class DataScan(Verb, task=DATA):
    """The images of a folder of class folders, and the files that are not readable."""

    folder: Annotated[Positional[Place], arg(metavar="FOLDER|FILE.csv")]
    """Holds a folder per class, or train/, validation/, test/; or paths and labels."""

    def run(self) -> None:
        """Print them."""
        print(_scanned(Path(self.folder)))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Which data set, and how it is read."""

    data: Annotated[Positional[Place], arg(metavar="NAME|FOLDER|FILE")]
    """A folder with a folder of images per class, FILE.npz, FILE.csv or idx files, or a name of
    `cnnjax data list`."""
    data_dir: DataDirectory = None
    image_size: Annotated[tuple[int, int], arg(metavar="H W")] = (96, 96)
    """Of images that may have any size."""


@dataclass(frozen=True, kw_only=True)
class DataInfo(_Source, Verb, task=DATA):
    """Sizes, class balance, values, duplicates, fingerprints and cache of a data set."""

    def run(self) -> None:
        """Print them."""
        from cnnjax import data
        from cnnjax.core.progress import progress_bar

        if data.holds_texts(self.data, self.data_dir):
            found = data.describe_texts(self.data, data_dir=self.data_dir, progress=say)
            show(_place(self))
            print(found)
            return
        splits, aside = _images(self)
        with progress_bar("images") as move:
            found = data.describe(splits, move)
        show(_place(self))
        print(found)
        if isinstance(splits.train.inputs, data.FileImages):
            height, width = self.image_size
            print(f"pixels, fingerprint and cache are those of {height}x{width} (--image-size H W)")
        if aside is not None:
            print(f"files set aside: {sum(aside.values()):,}")
            for reason, count in aside.items():
                show(f"  {count:,} {reason}")


@dataclass(frozen=True, kw_only=True)
class DataShow(_Source, Verb, task=DATA):
    """Examples of every class as an image; those of texts are printed."""

    split: str = "train"
    """Split to show: train, validation or test."""
    per_class: int = 8
    """Examples of each."""
    classes: Annotated[tuple[str, ...] | None, arg(metavar="CLASS")] = None
    """Default: all, of images the first 20."""
    seed: int = 0
    """Of the choice."""
    out: Annotated[Place | None, arg(metavar="FILE.png")] = None
    """Default: figures/NAME-SPLIT.png."""
    export: Annotated[Place | None, arg(metavar="DIR")] = None
    """Instead of one image write each example, as DIR/CLASS/NUMBER.png."""

    def run(self) -> None:
        """Draw, write or print them."""
        from cnnjax import data, plot
        from cnnjax.data.names import check_outside, place_of

        if data.holds_texts(self.data, self.data_dir):
            _print_texts(self)
            return
        path = place_of(self.data, self.data_dir)
        if self.export:
            _export(self, self.export, path)
            return
        name = path.name if path.is_dir() else path.stem
        target = Path(self.out or f"figures/{name}-{self.split}.png")
        if target.suffix.lower() != ".png":
            raise ValueError(f"--out must be a .png file, got {self.out}")
        check_outside(target, path, " with --out")
        splits, _ = _images(self)
        figure = plot.contact_sheet(
            _part(splits.parts, self), self.per_class, self.seed, self.classes
        )
        with warnings.catch_warnings():
            # Of a name in a script that the font lacks: the image has a box for each letter.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            show(plot.save_image(target.parent, target.stem, figure))


def _export(options: DataShow, folder: str, path: Path) -> None:
    """Examples as files, each class in a folder of its own."""
    from cnnjax import plot
    from cnnjax.data.names import check_outside

    if options.out:
        raise ValueError("--out is a sheet of examples and --export a file of each: give one")
    check_outside(Path(folder), path, " with --export")
    splits, _ = _images(options)
    part = _part(splits.parts, options)
    written = plot.export_examples(part, folder, options.per_class, options.seed, options.classes)
    folders = {file.parent for file in written}
    images, classes = counted(len(written), "image"), counted(len(folders), "class", "classes")
    show(f"{folder}: {images} of {classes}")


def _print_texts(options: DataShow) -> None:
    """Examples of every class, each on a line, cut where they are long."""
    from cnnjax.data.examples import choose_examples
    from cnnjax.data.texts.load_texts import find_texts

    for option in ("out", "export"):
        if getattr(options, option):
            raise ValueError(
                f"--{option} is for images, and {options.data} holds texts: leave it out"
            )
    parts, names = find_texts(options.data, options.data_dir, progress=say).read()
    texts, labels = _part(parts, options)
    chosen = choose_examples(labels, names, options.per_class, options.seed, options.classes)
    for name, positions in chosen.items():
        show(f"{name} ({(labels == names.index(name)).sum():,})")
        for position in positions:
            text = " ".join(texts[position].split())
            more = " ..." if len(text) > _BEGINNING else ""
            show(f"  {text[:_BEGINNING]}{more}")


def _images(options: _Source) -> tuple[Any, dict[str, int] | None]:
    """The splits, and of images in files how many were set aside, by reason.

    These are not decoded into a cache, which a training at another size would not use.
    """
    from cnnjax import data
    from cnnjax.data.info import set_aside_by_reason
    from cnnjax.data.names import format_of, place_of

    size = options.image_size
    reader = format_of(options.data, options.data_dir)
    if reader is not None and reader.scan is not None:
        scan = _scanned(place_of(options.data, options.data_dir))
        return scan.splits(data.Decoding(size), 0, None), set_aside_by_reason(scan)
    return data.load(options.data, data_dir=options.data_dir, image_size=size, progress=say), None


def _scanned(path: Path) -> Any:
    """The scan of a folder or table, with a bar while files are read."""
    from cnnjax.core.progress import progress_bar
    from cnnjax.data.readers.formats import scan_of

    with progress_bar("files") as move:

        def tick(done: int, total: int) -> None:
            if done % _FILES_A_TICK == 0 or done == total:
                move(done, total)

        return scan_of(path)(path, progress=say, tick=tick)


def _part(parts: Mapping[str, Any], options: DataShow) -> Any:
    """What --split names.

    Raises:
        ValueError: if there is no such part.
    """
    if options.split not in parts:
        raise ValueError(
            f"--split {options.split}: {options.data} has no such part, only {', '.join(parts)}"
        )
    return parts[options.split]


def _place(options: _Source) -> str:
    """Where a data set lies."""
    from cnnjax import data
    from cnnjax.data.names import is_prepared, place_of

    if options.data in (*data.EMBEDDED, data.TEXTS[0]):
        return f"{options.data}: needs no files"
    if is_prepared(options.data, options.data_dir):
        return f"{options.data}: {data.tfds_directory(options.data_dir).absolute() / options.data}"
    return str(place_of(options.data, options.data_dir))
