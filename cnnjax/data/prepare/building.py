"""A data set is prepared: downloaded, written beside its place, read back, and moved there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnnjax.core.download import download
from cnnjax.core.download_job import DownloadError
from cnnjax.core.progress import Move, progress_bar
from cnnjax.core.storage import alone
from cnnjax.data.errors import DataNotFound
from cnnjax.data.prepare.known import IN_FOLDERS, RECIPES, check_name, raw_files
from cnnjax.data.prepare.photos import Photos
from cnnjax.data.prepare.raw import Contents, Example
from cnnjax.data.readers.array_records import array_record
from cnnjax.data.readers.split_names import SPLITS
from cnnjax.data.readers.tfds import find_split, in_batches, prepared_versions, tfds_directory

# Seconds to wait for a server: with the rest, a machine without network is told within five.
_PATIENCE = 3.0


def prepare(
    name: str,
    *,
    data_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    bar: bool = True,
) -> Path:
    """Download a data set and write it as TensorFlow Datasets does, without TensorFlow.

    What `tfds.data_source(name, data_dir=...)` opens, in array_record files; pixels, texts, labels
    and order are those of the official data set (but for the pixels of cats_vs_dogs: its JPEG files
    are kept as they are, where TFDS would compress them again). The raw files are kept in
    downloads/NAME/ below the TFDS directory; files that were put there by hand are used. The data
    set appears whole or not at all, also if several processes prepare it at once; if it is there
    already, nothing happens. cats_vs_dogs_small is written as class folders, from the files of
    cats_vs_dogs or Kaggle's train.zip, put beside them by hand.

    Args:
        name: from `RECIPES`.
        data_dir: the TFDS directory; None takes TFDS_DATA_DIR, else ~/tensorflow_datasets.
        progress: told in a sentence what is done.
        bar: show bars on stderr, if it is a terminal.

    Returns:
        The directory of the version, e.g. ~/tensorflow_datasets/mnist/3.0.1.

    Raises:
        ValueError: for an unknown name, raw files that do not hold what they should, or where
            array_record is not installed.
        DownloadError: if a file cannot be had; how to go on without network is in the text.
        OSError: if the disk takes no more.
    """
    check_name(name)
    say = progress or (lambda text: None)
    root = tfds_directory(data_dir).absolute()
    if (there := _prepared(root, name)) is not None:
        say(f"{name} is prepared already, in {there}")
        return there
    if name not in IN_FOLDERS:  # before anything is downloaded
        array_record("TensorFlow Datasets")
    root.mkdir(parents=True, exist_ok=True)
    with alone(root / f".{name}.lock", lambda: say(f"another process prepares {name}: waiting")):
        there = _prepared(root, name)  # by a process that this one has waited for
        if there is None:
            _sweep(root, name)
            folder = root / "downloads" / (RECIPES[name].files_of or name)
            files = _put_by_hand(name, folder) or _download_all(name, folder, say, bar)
            contents = RECIPES[name].read(files)
            if isinstance(contents, Photos):
                there = _build_folders(name, root, contents, say, bar)
            else:
                there = _build(name, root, contents, say, bar)
    say(f"{name} is prepared, in {there}")
    return there


def _prepared(root: Path, name: str) -> Path | None:
    """Where a data set is that can be opened; an error for what is in the way."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"data_dir {root} is a file: give a directory")
    if name in IN_FOLDERS:
        return _prepared_folders(root / name)
    if not prepared_versions(root / name):
        if any(root.glob(f"{name}/[!.]*")):
            raise ValueError(
                f"{root / name} holds an incomplete data set, which was left as it is: delete it, "
                "if no other program is preparing it"
            )
        return None
    try:
        there = find_split(root, name, "train")
    except DataNotFound as error:
        raise ValueError(f"{error}, or give another directory") from None
    if there is None:
        raise ValueError(f"the data set in {root / name} has no split 'train': move it away")
    return there


def _prepared_folders(folder: Path) -> Path | None:
    """A data set of class folders that is there; an error for what is in the way."""
    if not folder.exists():
        return None
    if lacking := [part for part in SPLITS if not (folder / part).is_dir()]:
        raise ValueError(
            f"{folder} is another one than would be prepared, without {lacking[0]}/: move it away"
        )
    return folder


def _put_by_hand(name: str, folder: Path) -> dict[str, Path]:
    """An archive that somebody has put among the raw files instead of them; {} if nobody has."""
    there = [file for file in RECIPES[name].by_hand if (folder / file).is_file()]
    return {file: folder / file for file in there[:1]}


def _download_all(
    name: str, folder: Path, say: Callable[[str], None], bar: bool
) -> dict[str, Path]:
    wanted = raw_files(name)
    absent = [file for file in wanted if not (folder / file.name).is_file()]
    if absent:
        size = sum(file.size for file in absent) / 2**20
        say(f"downloading {len(absent)} of {len(wanted)} files, {size:,.1f} MiB, into {folder}")
    files = {}
    for file in wanted:
        try:
            files[file.name] = download(
                file.url, folder,
                size=file.size, sha256=file.sha256, name=file.name,
                timeout=_PATIENCE, progress=bar,
            )  # fmt: skip
        except DownloadError as error:
            others = [f.url for f in wanted if f is not file and not (folder / f.name).is_file()]
            more = f", and beside it what is at {' and '.join(others)}" if others else ""
            more += "".join(f", or Kaggle's {file} beside it" for file in RECIPES[name].by_hand)
            embedded = "templates" if name == "imdb_reviews" else "digits"
            raise DownloadError(f"{error}{more}. Needs no files: --data {embedded}") from error
    return files


def _build(
    name: str, root: Path, contents: Contents, say: Callable[[str], None], bar: bool
) -> Path:
    """Write, verify, move to its place."""
    say(f"writing {name}")
    with _staging(name, root) as staging:
        # A level below, where nobody takes it for a data set.
        built = _write(name, staging / "tfds", contents, bar)
        for remark in contents.remarks:
            say(remark)
        target = root / built.relative_to(staging / "tfds")
        target.parent.mkdir(parents=True, exist_ok=True)
        for extra in (staging / "tfds" / name).glob(".config/*"):
            # Which configuration is the default one; the same file whoever writes it.
            (root / name / ".config").mkdir(exist_ok=True)
            os.replace(extra, root / name / ".config" / extra.name)
        os.rename(built, target)
        return target


def _build_folders(
    name: str, root: Path, photos: Photos, say: Callable[[str], None], bar: bool
) -> Path:
    """Write the files of class folders, move them to their place."""
    say(f"writing {name}")
    with _staging(name, root) as staging:
        with progress_bar(f"writing {name}", wanted=bar) as move:
            for done, (file, content) in enumerate(photos.files, start=1):
                place = staging / name / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                move(done, RECIPES[name].examples)
        for remark in photos.remarks:
            say(remark)
        os.rename(staging / name, root / name)
        return root / name


@contextlib.contextmanager
def _staging(name: str, root: Path) -> Iterator[Path]:
    """A folder to write a data set in, from which it is moved to its place; `_sweep` knows it."""
    staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(name: str, directory: Path, contents: Contents, bar: bool) -> Path:
    """Let the registered builder of TFDS write the examples; where it did."""
    import tensorflow_datasets as tfds

    failures: list[Exception] = []
    counts = dict.fromkeys(contents.splits, 0)

    def examples(split: str, move: Move) -> Iterator[Example]:
        try:
            for example in contents.splits[split]():
                yield example
                counts[split] += 1
                move(sum(counts.values()), RECIPES[name].examples)
        except Exception as error:  # TFDS would wrap it into one of its own
            failures.append(error)
            raise

    official: Any = tfds.builder_cls(name)
    with progress_bar(f"writing {name}", wanted=bar) as move, _quiet():

        class Builder(official, skip_registration=True):  # type: ignore[call-arg]
            """The official features and names; the examples come from the raw files."""

            name = official.name
            __module__ = official.__module__  # is written down with the data

            def _split_generators(self, dl_manager: object) -> dict[str, Iterator[Example]]:
                for label, names in contents.label_names.items():
                    self.info.features[label].names = names
                return {split: self._generate_examples(split) for split in contents.splits}

            def _generate_examples(self, split: str) -> Iterator[Example]:
                return examples(split, move)

        builder = Builder(data_dir=str(directory), file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            builder.download_and_prepare(download_config=config)
        except Exception as error:
            if failures:
                raise failures[0] from None
            if isinstance(error, RuntimeError | OSError):
                raise OSError(f"{name} was not written: {_reason(error)}") from error
            raise
    _verify(name, builder, counts)
    return Path(builder.data_dir)


def _reason(error: Exception) -> str:
    """What the system said, out of the text of who writes array_record files."""
    text = " ".join(str(error).split())
    said = re.search(r"\(\) failed: ([^;]+);", text)
    return said[1] if said else text


def _verify(name: str, builder: Any, written: dict[str, int]) -> None:
    """Read everything back: a full disk is not always noticed by who writes."""
    import tensorflow_datasets as tfds

    skip = {"image": tfds.decode.SkipDecoding()} if "image" in builder.info.features else None
    for split, count in written.items():
        if not count:
            raise ValueError(f"{name}: the raw files hold no example of the split {split!r}")
        records = builder.as_data_source(split=split, decoders=skip)
        if len(records) != count:
            raise OSError(f"{name}: {count} examples were written, {len(records)} are there")
        for _ in in_batches(records):
            pass


def _sweep(root: Path, name: str) -> None:
    """Remove what a killed process has left; nobody else is at work, as the lock is held."""
    for left in root.glob(f".{name}-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what TFDS shows and says, of its own downloads and of the directory beside."""
    from tensorflow_datasets.core.utils import tqdm_utils

    shown = tqdm_utils._active
    tqdm_utils.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm_utils.display_progress_bar(shown)
