"""A run directory as figures and one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.core import trees
from cnnjax.core.reading import read_bytes
from cnnjax.core.storage import write_text
from cnnjax.core.text import plain
from cnnjax.metrics import columns, percent, quality
from cnnjax.metrics.showing import names_for
from cnnjax.models import summary
from cnnjax.models.saved import abstract
from cnnjax.models.saved_spec import read_description, read_spec
from cnnjax.plot import figures
from cnnjax.plot.figures import BARE
from cnnjax.runs.by_class import arrays, by_class, counts
from cnnjax.runs.contents import REPORT_FILE
from cnnjax.runs.directory import RunDirectory
from cnnjax.runs.record import commit_of, is_finished, unwritable
from cnnjax.runs.seal import RunError, not_understood

_CAPTIONS = {
    "curves": "Loss and metrics over the epochs",
    "augmentation": "Training images, the original at the left, as augmentation changes them",
    "confusion_matrix": "Confusion matrix on the test data: rows are true, columns predicted",
    "mistakes": "The worst mistakes: wrong answers given with the highest probability",
}


_PNG_END = b"IEND\xaeB`\x82"  # Pillow does not look at its checksum


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left;
       vertical-align: top; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 12px; line-height: 1.35; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #555; }
.big { font-size: 1.6rem; font-weight: 600; } .quiet { color: #666; }
"""


def write_report(directory: str | Path, smoothing: float = 0.0) -> Path:
    """Write report.html into a run directory, from what the run recorded there.

    Args:
        directory: of a run, finished or not.
        smoothing: of the curves, as `plot.curves` takes it, in [0, 1).

    Returns:
        The path of the page.

    Raises:
        RunError: if it is no run directory, or no epoch was finished yet.
    """
    run = RunDirectory(directory)
    record, config, epochs = run.read_whole()
    if not epochs:
        raise RunError(f"the run {run.path} has finished no epoch yet: nothing to report")
    try:
        history = columns(epochs)  # what a later version added, a resumed run's first epochs lack
        tables = arrays(record, epochs)
    except (ValueError, TypeError) as error:
        raise not_understood(run.path, error) from error
    target = run.path / REPORT_FILE
    try:
        figures.save(figures.curves(history, smoothing), run.figures / "curves.png")
        names = read_description(run.path).get("label_names") or ()
        for name, matrix in counts(tables).items():
            drawn = figures.confusion_matrix(matrix, names_for(len(matrix), names, name))
            figures.save(drawn, run.figures / f"{name}.png")
        by_label = by_class(tables, names)
        write_text(target, _page(run, record, config, epochs, by_label))
    except (KeyError, TypeError, AttributeError) as error:
        raise not_understood(run.path, error) from error
    except OSError as error:
        raise unwritable(Path(error.filename or target), error) from None
    return target


def _page(
    run: RunDirectory,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    by_label: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]],
) -> str:
    title = str(record.get("experiment", record.get("model", "run")))
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="quiet">{html.escape(_what(record))}</p>',
        _headline(record, epochs),
        *(_table(head, rows, range(1, len(head))) for head, rows in by_label),
        *_figures(run.figures),
        "<h2>Model</h2>",
        f"<pre>{html.escape(_model_table(run.path))}</pre>",
        "<h2>Data</h2>",
        _data_table(record),
        "<h2>Epochs</h2>",
        _epoch_table(epochs),
        "<h2>Settings</h2>",
        _facts({k: _text(v) for k, v in trees.flatten(config).items()}),
        "<h2>Where and how</h2>",
        _facts(_environment(record, run.path)),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _what(record: Mapping[str, Any]) -> str:
    parts = [
        record.get("description"),
        f"model {record.get('model')}",
        f"seed {record.get('seed')}",
    ]
    if "recipe" in record:
        parts.append(f"recipe {record['recipe']}")
    if not is_finished(record):
        parts.append(f"status: {record.get('status')}")
    if stopped := record.get("stopped"):
        parts.append(f"stopped by {stopped['by']} in epoch {stopped['epoch']}")
    return " · ".join(str(p) for p in parts if p)


def _headline(record: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> str:
    metrics = record.get("metrics") or {}
    rows = []
    metric = quality(epochs[-1])
    first = (f"test_{metric}", "test_loss", f"val_{metric}", "val_loss")
    for key in dict.fromkeys((*first, *metrics)):
        if isinstance(metrics.get(key), int | float):
            rows.append((key, _shown(key, metrics[key])))
    if not rows:
        shown = _shown(metric, epochs[-1][metric])
        rows = [(f"{metric.replace('_', ' ')} on the training data", shown)]
    lines = [f'<p class="big">{html.escape(rows[0][0].replace("_", " "))}: {rows[0][1]}</p>']
    reported = record.get("reported") or {}
    if reported:
        text = ", ".join(f"{k.replace('_', ' ')} {_shown(k, v)}" for k, v in reported.items())
        lines.append(f"<p>Reported with Keras: {html.escape(text)}</p>")
    rest = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in rows[1:])
    lines.append(f"<p>{html.escape(rest)}</p>" if rest else "")
    return "\n".join(lines)


def _shown(metric: str, value: float) -> str:
    return percent(value) if "accuracy" in metric else f"{value:.4f}"


def _figures(folder: Path) -> list[str]:
    """Those of the results; under a heading of their own those of `plot`, with its captions."""
    order = {name: i for i, name in enumerate(_CAPTIONS)}
    files = sorted(folder.glob("*.png"), key=lambda f: (order.get(f.stem, len(order)), f.stem))
    results: list[str] = []
    inside: list[str] = []
    for file in files:
        try:
            content = read_bytes(file, "figure")
            about = _texts(content)
        except FileNotFoundError:  # drawn anew by another process: there is none just now
            continue
        except ValueError as error:  # cut off, or no image
            results.append(f"<p>{html.escape(plain(file.name))} is not shown: {error}</p>")
            continue
        if BARE.items() <= about.items():
            continue
        described = about.get("Description", "")
        caption = _CAPTIONS.get(file.stem) or described or file.stem.replace("_", " ")
        inside_it = described and file.stem not in _CAPTIONS
        (inside if inside_it else results).append(_figure(content, caption))
    return [*results, "<h2>Looking inside</h2>", *inside] if inside else results


def _texts(content: bytes) -> dict[str, str]:
    """Those in a PNG file by name; its "Description" is the caption of `plot.save_image`.

    Raises:
        ValueError: if it is no whole PNG file.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            texts = {str(k): v for k, v in image.info.items() if isinstance(v, str)}
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("it is not a whole PNG file") from error
    if not content.rstrip(b"\0").endswith(_PNG_END):
        raise ValueError("it is not a whole PNG file")
    return texts


def _figure(content: bytes, caption: str) -> str:
    data, text = base64.b64encode(content).decode(), html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _model_table(directory: Path) -> str:
    values = read_description(directory)
    if "arguments" not in values:
        return f"{values['name']}: a module of the user's own; its code is not stored with the run"
    # No checkpoint is restored for it.
    return str(summary(abstract(read_spec(directory), None, directory)))


def _data_table(record: Mapping[str, Any]) -> str:
    rows = [
        (part, facts["name"], f"{facts['examples']:,}", facts["fingerprint"])
        for part, facts in record.get("data", {}).items()
    ]
    return _table(("part", "data set", "examples", "fingerprint"), rows, numeric=(2,))


def _epoch_table(epochs: Sequence[Mapping[str, Any]]) -> str:
    keys = [name for name, value in epochs[-1].items() if not isinstance(value, list)]
    rows = [tuple(_text(e.get(k, "")) for k in keys) for e in epochs]
    return _table(tuple(k.replace("_", " ") for k in keys), rows, numeric=range(len(keys)))


def _environment(record: Mapping[str, Any], path: Path) -> dict[str, str]:
    facts = {
        "command": record.get("command", ""),
        "directory": str(path),
        "started": record.get("started", ""),
        "seconds": _text(record.get("seconds", "")),
        "parameter hash": record.get("parameter_hash", ""),
        "commit": commit_of(record),
    }
    facts.update({k: str(v) for k, v in record.get("machine", {}).items()})
    facts.update({k: str(v) for k, v in record.get("versions", {}).items()})
    return facts


def _facts(facts: Mapping[str, str]) -> str:
    return _table((), [(k.replace("/", " · "), v) for k, v in facts.items()])


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] | range = ()
) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in numeric else ''}>{html.escape(str(cell))}</{tag}>"
            for i, cell in enumerate(row)
        )

    lines = [f"<tr>{cells('th', head)}</tr>"] if head else []
    lines += [f"<tr>{cells('td', row)}</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _text(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
