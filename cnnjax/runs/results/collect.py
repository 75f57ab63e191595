"""The runs of experiments below some folders, those that differ in their seed only together."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.core import trees
from cnnjax.core.places import expanded
from cnnjax.runs.contents import RUN_FILE, files_below
from cnnjax.runs.directory import RunDirectory
from cnnjax.runs.record import is_finished
from cnnjax.runs.results.rows import Result, figures, provenance
from cnnjax.runs.resuming import with_defaults, without_seed
from cnnjax.runs.seal import RunError, not_understood


def collect(folders: Iterable[str | Path]) -> list[Result]:
    """The results that lie in or below some folders.

    Args:
        folders: run directories, or folders of them at any depth.

    Returns:
        One per experiment, recipe, data set and settings; runs that are not finished, or belong to
        no experiment, are left out. Of two runs with one seed the newer one counts.

    Raises:
        RunError: if a folder does not exist, a record is damaged, or runs that differ in more than
            the seed would share a row.
    """
    groups: dict[tuple, dict[int, dict[str, Any]]] = defaultdict(dict)
    alike: dict[tuple, dict[str, Any]] = {}
    tested: dict[tuple, dict[int, str]] = defaultdict(dict)
    for folder in folders:
        if not expanded(folder).is_dir():
            raise RunError(f"{expanded(folder)} does not exist or is no folder")
        for file in files_below([folder], RUN_FILE):
            directory = RunDirectory(file.parent)
            record = directory.record()
            if not is_finished(record) or not record.get("experiment"):
                continue
            record, config, epochs = directory.read_whole()
            key, same = _checked(directory, record, config, epochs)
            if lines := _differences(alike.setdefault(key, same), same):
                raise RunError(
                    f"{directory.path} is a run of {' '.join(key)} like others there, but differs "
                    f"in more than the seed ({'; '.join(lines)}): give the folders of one of them "
                    "only"
                )
            if _changed(record):
                _note_test_data(tested[key], key, record)
            before = groups[key].get(record["seed"])
            if before is None or before.get("ended", "") < record.get("ended", ""):
                groups[key][record["seed"]] = record
    for key, parts in tested.items():
        if 1 < len(set(parts.values())) < len(parts):
            raise RunError(
                f"runs of {' '.join(key)} are tested on different data, though not each seed on "
                "its own: give the folders of one of them only"
            )
    return [Result([runs[seed] for seed in sorted(runs)]) for _, runs in sorted(groups.items())]


def _changed(record: Mapping[str, Any]) -> bool:
    """Whether the data are not what `load` makes: made up, or changed by the experiment."""
    return "source" in record and record["source"] is None


def _note_test_data(parts: dict[int, str], key: tuple, record: Mapping[str, Any]) -> None:
    """Note what a seed was tested on: an experiment may change the images by the seed."""
    found, seed = record["data"].get("test", {}).get("fingerprint", ""), record["seed"]
    if parts.setdefault(seed, found) != found:
        raise RunError(
            f"{record['folder']} is a run of {' '.join(key)} of seed {seed} like another one "
            f"there, but its test data are others ({parts[seed]} and {found}): give the folder "
            "of one of them only"
        )


def _checked(
    directory: RunDirectory,
    record: dict[str, Any],
    config: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
) -> tuple[tuple, dict[str, Any]]:
    """The row of a run, and what all runs of the row have in common; completes the record."""
    try:
        config = with_defaults(config)
        record["epoch"] = epochs[record["best_epoch"] - 1]
        record["epochs"] = len(epochs)
        record["epoch_seconds"] = _steady_seconds(epochs)
        record["folder"] = str(directory.path)
        same = {
            **config,
            "training": without_seed(config["training"]),
            "examples": {name: part["examples"] for name, part in record["data"].items()},
        }
        if not _changed(record):
            # The training part depends on the seed; the test part is the data set's own.
            same["test data"] = record["data"].get("test", {}).get("fingerprint")
        result = Result([record])
        for row in (figures, provenance):
            row(result)
        return result.key, same
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise not_understood(directory.path, error) from error


def _steady_seconds(epochs: Sequence[Mapping[str, Any]]) -> float | None:
    """Of an epoch: the median of all but the first one, in which the step is compiled."""
    values = [line["seconds"] for line in epochs if "seconds" in line]
    return statistics.median(values[1:] or values) if values else None


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return trees.differences(trees.flatten(first), trees.flatten(second))
