"""The verb data: look at data sets, folders and files."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.cli import preparing
from cnnjax.cli.options import place
from cnnjax.cli.running import say, show

# Of images that may have any size, where none is asked for.
_SIZE = (96, 96)

# Letters of a text that are printed.
_BEGINNING = 300

_FILES_A_TICK = 64


def add(verbs: Any) -> None:
    """Add the verb and its actions to the command's."""
    verb = verbs.add_parser("data", help="prepare and look at data")
    actions = verb.add_subparsers(required=True, metavar="ACTION")
    preparing.add(actions)
    _add_scan(actions)
    _add_info(actions)
    _add_show(actions)


def _add_scan(actions: Any) -> None:
    action = actions.add_parser(
        "scan", help="the images of a folder of class folders, and the files that are no good"
    )
    action.add_argument(
        "folder", metavar="FOLDER|FILE.csv", type=place,
        help="holds a folder per class, or train/, validation/, test/; or paths and labels",
    )  # fmt: skip
    action.set_defaults(verb=_scan)


def _add_info(actions: Any) -> None:
    action = actions.add_parser(
        "info",
        help="sizes, class balance, values, duplicates, fingerprints and cache of a data set",
    )
    _add_source(action)
    action.set_defaults(verb=_info)


def _add_show(actions: Any) -> None:
    action = actions.add_parser(
        "show", help="examples of every class as an image; those of texts are printed"
    )
    _add_source(action)
    action.add_argument("--split", default="train", help="train (default), validation or test")
    action.add_argument("--per-class", type=int, default=8, help="examples of each; default: 8")
    action.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="default: all, of images the first 20"
    )
    action.add_argument("--seed", type=int, default=0, help="of the choice; default: 0")
    action.add_argument(
        "--out", metavar="FILE.png", type=place, help="default: figures/NAME-SPLIT.png"
    )
    action.add_argument(
        "--export", metavar="DIR", type=place,
        help="instead of one image write each example, as DIR/CLASS/NUMBER.png",
    )  # fmt: skip
    action.set_defaults(verb=_show)


def _add_source(action: argparse.ArgumentParser) -> None:
    """Which data set, and how it is read."""
    action.add_argument(
        "data", metavar="NAME|FOLDER|FILE", type=place, help="as --data of the experiments"
    )
    action.add_argument("--data-dir", type=place, help="a TensorFlow Datasets directory to look in")
    action.add_argument(
        "--image-size", nargs=2, type=int, metavar=("H", "W"), default=_SIZE,
        help=f"of images that may have any size; default: {_SIZE[0]} {_SIZE[1]}",
    )  # fmt: skip


def _scan(options: argparse.Namespace) -> None:
    print(_scanned(Path(options.folder)))


def _info(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.core.progress import progress_bar

    if data.holds_texts(options.data, options.data_dir):
        found = data.describe_texts(options.data, data_dir=options.data_dir, progress=say)
        show(_place(options))
        print(found)
        return
    splits, aside = _images(options)
    with progress_bar("images") as move:
        found = data.describe(splits, move)
    show(_place(options))
    print(found)
    if isinstance(splits.train.inputs, data.FileImages):
        height, width = options.image_size
        print(f"pixels, fingerprint and cache are those of {height}x{width} (--image-size H W)")
    if aside is not None:
        print(f"files set aside: {sum(aside.values()):,}")
        for reason, count in aside.items():
            show(f"  {count:,} {reason}")


def _show(options: argparse.Namespace) -> None:
    from cnnjax import data, plot
    from cnnjax.data.names import place_of

    if data.holds_texts(options.data, options.data_dir):
        _print_texts(options)
        return
    path = place_of(options.data, options.data_dir)
    if options.export:
        _export(options, path)
        return
    name = path.name if path.is_dir() else path.stem
    target = Path(options.out or f"figures/{name}-{options.split}.png")
    if target.suffix.lower() != ".png":
        raise ValueError(f"--out must be a .png file, got {options.out}")
    preparing.check_outside(target, path, " with --out")
    splits, _ = _images(options)
    figure = plot.contact_sheet(
        _part(splits.parts, options), options.per_class, options.seed, options.classes
    )
    with warnings.catch_warnings():
        # Of a name in a script that the font lacks: the image has a box for each letter.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        show(plot.save_image(target.parent, target.stem, figure))


def _export(options: argparse.Namespace, path: Path) -> None:
    """Examples as files, each class in a folder of its own."""
    from cnnjax import plot

    if options.out:
        raise ValueError("--out is a sheet of examples and --export a file of each: give one")
    preparing.check_outside(Path(options.export), path, " with --export")
    splits, _ = _images(options)
    part = _part(splits.parts, options)
    written = plot.export_examples(
        part, options.export, options.per_class, options.seed, options.classes
    )
    folders = {file.parent for file in written}
    show(f"{options.export}: {len(written):,} images of {len(folders):,} classes")


def _print_texts(options: argparse.Namespace) -> None:
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


def _images(options: argparse.Namespace) -> tuple[Any, dict[str, int] | None]:
    """The splits, and of images in files how many were set aside, by reason.

    These are not decoded into a cache, which a training at another size would not use.
    """
    from cnnjax import data
    from cnnjax.data.info import set_aside_by_reason
    from cnnjax.data.names import kind_of, place_of

    size = tuple(options.image_size)
    if kind_of(options.data, options.data_dir) in ("folder", "table"):
        scan = _scanned(place_of(options.data, options.data_dir))
        return scan.splits(data.Decoding(size), 0, None), set_aside_by_reason(scan)
    return data.load(options.data, data_dir=options.data_dir, image_size=size, progress=say), None


def _scanned(path: Path) -> Any:
    """The scan of a folder or table, with a bar while files are read."""
    from cnnjax.core.progress import progress_bar
    from cnnjax.data import scan_folder, scan_table

    with progress_bar("files") as move:

        def tick(done: int, total: int) -> None:
            if done % _FILES_A_TICK == 0 or done == total:
                move(done, total)

        scan = scan_table if _is_table(path) else scan_folder
        return scan(path, progress=say, tick=tick)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not path.is_dir()


def _part(parts: Mapping[str, Any], options: argparse.Namespace) -> Any:
    """What --split names.

    Raises:
        ValueError: if there is no such part.
    """
    if options.split not in parts:
        raise ValueError(
            f"--split {options.split}: {options.data} has no such part, only {', '.join(parts)}"
        )
    return parts[options.split]


def _place(options: argparse.Namespace) -> str:
    """Where a data set lies."""
    from cnnjax import data
    from cnnjax.data.names import is_prepared, place_of

    if options.data in (*data.EMBEDDED, data.TEXTS[0]):
        return f"{options.data}: needs no files"
    if is_prepared(options.data, options.data_dir):
        return f"{options.data}: {data.tfds_directory(options.data_dir).absolute() / options.data}"
    return str(place_of(options.data, options.data_dir))
