"""Actions of the verb data that write data sets: list, prepare, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cnnjax.cli.options import place
from cnnjax.cli.running import say, show


def add(actions: Any) -> None:
    """Add the actions of this file to those of `data`."""
    action = actions.add_parser("list", help="data sets by name: which are here, which to prepare")
    action.add_argument("--data-dir", type=place, help="a TensorFlow Datasets directory to look in")
    action.set_defaults(verb=_list)

    action = actions.add_parser(
        "prepare",
        help="download data sets and write them as TensorFlow Datasets does",
        description="Downloads the raw files, verified and resumable, into downloads/NAME/ of the "
        "data directory, where files may also be put by hand, and writes array_record files that "
        "anyone opens with tfds.data_source. TensorFlow is not needed.",
    )
    action.add_argument("names", nargs="+", metavar="NAME", help="from `cnnjax data list`")
    action.add_argument(
        "--data-dir",
        type=place,
        help="where to; default: TFDS_DATA_DIR, else ~/tensorflow_datasets",
    )
    action.set_defaults(verb=_prepare)

    action = actions.add_parser(
        "export", help="write a data set of images as a folder per class of PNG files"
    )
    action.add_argument("data", metavar="NAME|FILE", type=place, help="as --data of experiments")
    action.add_argument("folder", metavar="FOLDER", type=place, help="a new one")
    action.add_argument("--data-dir", type=place, help="a TensorFlow Datasets directory to look in")
    action.add_argument(
        "--image-size", nargs=2, type=int, metavar=("H", "W"),
        help="of images that may have any size",
    )  # fmt: skip
    action.add_argument("--classes", nargs="+", metavar="CLASS", help="default: all")
    action.add_argument("--per-class", type=int, help="images of each in every part; default: all")
    action.add_argument("--seed", type=int, default=0, help="of the choice; default: 0")
    action.set_defaults(verb=_export)


def _list(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.data.prepare import raw_files

    root = data.tfds_directory(options.data_dir).absolute()
    here = data.prepared_names(root)
    width = max(map(len, [*data.RECIPES, *data.TEXTS, *here]))
    print("Need no files:")
    print(f"  {'digits':{width}}  1,797 handwritten digits of scikit-learn, 28x28 grey, 10 classes")
    print(f"  {'templates':{width}}  made-up film reviews, 2 classes")
    show(f"In {root}{'' if root.is_dir() else ' (does not exist)'}:")
    for name in here:
        title = data.RECIPES[name].title if name in data.RECIPES else ""
        show(f"  {name:{width}}  {title}".rstrip())
    if not here:
        print("  no data sets")
    if absent := [name for name in data.RECIPES if name not in here]:
        print("To be had by `cnnjax data prepare NAME ...`:")
    for name in absent:
        size = sum(file.size for file in raw_files(name)) / 2**20
        print(f"  {name:{width}}  {data.RECIPES[name].title}; download {size:,.0f} MiB")


def _prepare(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.data.prepare.known import check_name

    for name in options.names:  # before anything is downloaded
        check_name(name)
    for name in options.names:
        data.prepare(name, data_dir=options.data_dir, progress=say)


def _export(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.data.names import place_of

    check_outside(Path(options.folder), place_of(options.data, options.data_dir))
    size = tuple(options.image_size) if options.image_size else None
    splits = data.load(options.data, data_dir=options.data_dir, image_size=size, progress=say)
    show(
        data.export_folders(
            splits, options.folder,
            classes=options.classes, per_class=options.per_class, seed=options.seed,
        )
    )  # fmt: skip


def check_outside(target: Path, data: Path, option: str = "") -> None:
    """An image among the images would be one of them, or take the place of one."""
    if data.is_dir() and target.absolute().resolve().is_relative_to(data.resolve()):
        raise ValueError(
            f"{target} lies in the folder of the data set, which it would change: give another "
            f"place{option}"
        )
