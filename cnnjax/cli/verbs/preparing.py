"""Actions of the verb data that write data sets: list, prepare, export, shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Annotated

from tyro.conf import Positional, arg

from cnnjax.cli.options import DataDirectory, whole_numbers
from cnnjax.cli.running import say, show
from cnnjax.cli.verb import DATA, Verb
from cnnjax.core.places import Place
from cnnjax.core.table import table


@dataclass(frozen=True)
class DataList(Verb, task=DATA):
    """Data sets by name: which are here, which to prepare."""

    data_dir: DataDirectory = None

    def run(self) -> None:
        """Print them."""
        from cnnjax import data
        from cnnjax.data.prepare import raw_files

        root = data.tfds_directory(self.data_dir).absolute()
        here = data.prepared_names(root)
        titles = {name: recipe.title for name, recipe in data.RECIPES.items()}
        absent = [
            (n, f"{titles[n]}; download {sum(f.size for f in raw_files(n)) / 2**20:,.0f} MiB")
            for n in titles
            if n not in here
        ]
        print("Need no files:")
        _print(
            [
                ("digits", "1,797 handwritten digits, 28x28 grey, 10 classes"),
                ("templates", "made-up film reviews, 2 classes"),
            ]
        )
        show(f"In {root}{'' if root.is_dir() else ' (does not exist)'}:")
        _print([(name, titles.get(name, "")) for name in here] or [("no data sets", "")])
        if absent:
            print("To be had by `cnnjax data prepare NAME ...`:")
            _print(absent)


def _print(rows: list[tuple[str, str]]) -> None:
    print(indent(table(rows, "<"), "  "))


@dataclass(frozen=True)
class DataPrepare(Verb, task=DATA):
    """Download data sets and write them as TensorFlow Datasets does.

    Downloads the raw files, verified and resumable, into downloads/NAME/ of the data directory,
    where files may also be put by hand, and writes array_record files that anyone opens with
    tfds.data_source. TensorFlow is not needed.
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME")]
    """From `cnnjax data list`."""
    data_dir: Annotated[Place | None, arg(metavar="DIR")] = None
    """Where to; default: TFDS_DATA_DIR, else ~/tensorflow_datasets."""

    def run(self) -> None:
        """Prepare each."""
        from cnnjax import data
        from cnnjax.data.prepare.known import check_name

        for name in self.names:  # before anything is downloaded
            check_name(name)
        for name in self.names:
            data.prepare(name, data_dir=self.data_dir, progress=say)


@dataclass(frozen=True)
class DataExport(Verb, task=DATA):
    """Write a data set of images as a folder per class of PNG files."""

    data: Annotated[Positional[Place], arg(metavar="NAME|FILE")]
    """A name of `cnnjax data list`, or FILE.npz, FILE.csv or idx files."""
    folder: Annotated[Positional[Place], arg(metavar="FOLDER")]
    """A new one."""
    data_dir: DataDirectory = None
    image_size: Annotated[tuple[int, int] | None, whole_numbers("H W")] = None
    """Of images that may have any size."""
    classes: Annotated[tuple[str, ...] | None, arg(metavar="CLASS")] = None
    """Default: all."""
    per_class: Annotated[int | None, arg(metavar="INT")] = None
    """Images of each in every part; default: all."""
    seed: int = 0
    """Of the choice."""

    def run(self) -> None:
        """Write it."""
        from cnnjax import data
        from cnnjax.data.names import check_outside, place_of

        check_outside(Path(self.folder), place_of(self.data, self.data_dir))
        splits = data.load(
            self.data, data_dir=self.data_dir, image_size=self.image_size, progress=say
        )
        show(
            data.export_folders(
                splits, self.folder,
                classes=self.classes, per_class=self.per_class, seed=self.seed,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class DataShard(Verb, task=DATA):
    """Write a data set of images as array_record shards, which many processes read well.

    Files stay as they are, byte for byte. Interrupted and started again it goes on.
    """

    data: Annotated[Positional[Place], arg(metavar="FOLDER|NAME|FILE")]
    """A folder with a folder of images per class, FILE.npz, FILE.csv or idx files, or a name of
    `cnnjax data list`."""
    out: Annotated[Place | None, arg(metavar="DIR")] = None
    """Default: NAME-shards, beside the folder."""
    data_dir: DataDirectory = None
    classes: Annotated[tuple[str, ...] | None, arg(metavar="CLASS")] = None
    """Of a folder; default: all."""
    examples_per_shard: Annotated[int | None, arg(metavar="INT")] = None
    """Default: as many as come to --shard-mb."""
    shard_mb: float = 128
    """MiB of a shard, on average."""

    def run(self) -> None:
        """Write them."""
        from cnnjax import data
        from cnnjax.core.progress import progress_bar

        with progress_bar("images") as move:
            folder = data.shard(
                self.data, self.out, data_dir=self.data_dir, class_names=self.classes,
                examples_per_shard=self.examples_per_shard, shard_mb=self.shard_mb,
                progress=say, tick=move,
            )  # fmt: skip
        show(folder)
