"""Records of runs as a repository keeps them: small, and without places of one machine.

A copy holds what its row of the tables is made of, and what `cnnjax reproduce` needs: run.json,
metrics.jsonl, config.json and model.json. Of files and folders it has the names alone, and it is
sealed anew; the lines of metrics.jsonl are the run's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnjax.core.places import expanded
from cnnjax.core.reading import read_json
from cnnjax.core.storage import text_hash, write_directory, write_text
from cnnjax.models.saved_spec import MODEL_FILE
from cnnjax.runs.contents import CONFIG_FILE, METRICS_FILE, RUN_FILE, files_below
from cnnjax.runs.directory import RunDirectory
from cnnjax.runs.record import IDENTITY
from cnnjax.runs.results.claims import (
    CLAIMS_FILE,
    claims_file,
    command_of,
    file_name,
    read_claims,
)
from cnnjax.runs.results.collect import collect
from cnnjax.runs.results.results_table import enough_seeds
from cnnjax.runs.results.rows import without_places
from cnnjax.runs.seal import RunError, json_text, sealed
from cnnjax.runs.ties import CONFIG_HASH

# A path from the root of the file system or the home of its user, up to its last part.
_PLACE = re.compile(r"(?<![\w.~/:<])(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s'\",;=]+[/\\])*(?=[^\s/\\])")


def keep_records(
    folders: Iterable[str | Path],
    target: str | Path,
    *,
    least_seeds: int = 1,
    say: Callable[[str], None] = print,
) -> Path:
    """Copy what rows and claims are made of: to EXPERIMENT/RECIPE-DATA-seedN, claims beside it.

    Args:
        folders: as in `collect`.
        target: a folder, which may hold such copies; of two runs with one seed the newer one stays.
        least_seeds: runs of rows with fewer are not copied.
        say: told what is left out.

    Returns:
        Path of the target.

    Raises:
        RunError: if a record is damaged, or runs that differ in more than the seed would share a
            row, with those in the target as well.
    """
    sources, kept = [expanded(folder) for folder in folders], expanded(target)
    results = collect([*sources, kept] if kept.is_dir() else sources)
    places: dict[Path, tuple[str, ...]] = {}
    for result in enough_seeds(results, least_seeds, say):
        for run in result.runs:
            place = kept / _place(result.key, run["seed"])
            if places.setdefault(place, result.key) != result.key:
                raise RunError(
                    f"{place} would hold a run of {places[place]} and one of {result.key}: rename "
                    "the data of one of them"
                )
            if not Path(run["folder"]).is_relative_to(kept.absolute()):
                _copy(RunDirectory(run["folder"]), place)
    for source in sources:
        for file in files_below([source], CLAIMS_FILE):
            if not file.absolute().is_relative_to(kept.absolute()):
                inside = file.parent.relative_to(source)
                _copy_claims(file, kept / (inside if inside.parts else source.absolute().name))
    return kept


def _place(key: tuple[str, str, str], seed: int) -> Path:
    """Where a run is kept, below the target: the same for a run of the same row and seed."""
    experiment, *labels = key
    folders = [file_name(part) or "_" for part in experiment.split("/")]
    return Path(*folders) / "-".join([*filter(None, map(file_name, labels)), f"seed{seed}"])


def _copy(run: RunDirectory, place: Path) -> None:
    record, config, _ = run.read_whole()
    config_text = json_text(_without_places(config))
    record = {**_compact(record), CONFIG_HASH: text_hash(config_text)}
    texts = {RUN_FILE: sealed(record), CONFIG_FILE: config_text}
    if (run.path / MODEL_FILE).is_file():
        texts[MODEL_FILE] = json_text(_without_places(read_json(run.path / MODEL_FILE)))

    def write(folder: Path) -> None:
        for name, text in texts.items():
            write_text(folder / name, text)
        (folder / METRICS_FILE).write_bytes((run.path / METRICS_FILE).read_bytes())

    write_directory(place, write, is_whole=lambda _: False)


def _copy_claims(file: Path, folder: Path) -> None:
    """Copy claims, unless those that are there are newer."""
    _, facts = read_claims(file)
    place = claims_file(folder, command_of(facts))
    if place.is_file() and read_claims(place)[1].get("time", "") > facts.get("time", ""):
        return
    content = read_json(file)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, sealed({**content, **_without_places(facts)}))


def _compact(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without places, and without the long description of what a step computes."""
    short = {key: value for key, value in record.items() if key != IDENTITY}
    short["resumed"] = [
        {key: value for key, value in process.items() if key != IDENTITY}
        for process in record.get("resumed") or []
    ]
    if not short["resumed"]:
        del short["resumed"]
    return _without_places(short)


def _without_places(value: Any, key: str = "") -> Any:
    """The same with the names alone of all files and folders in it.

    >>> _without_places({"data": "/home/me/pets", "command": "python -m a --out ../b/c", "n": 1})
    {'data': 'pets', 'command': 'python -m a --out c', 'n': 1}
    >>> _without_places(["weights from ~/w/net.h5", "50 / 50", "conv1/kernel", r"C:\\data\\cats"])
    ['weights from net.h5', '50 / 50', 'conv1/kernel', 'cats']
    """
    if isinstance(value, Mapping):
        return {name: _without_places(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return without_places(value) if key == "command" else _PLACE.sub("", value)
