"""The file with the tables of results, whose rows are renewed from records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnjax.core.storage import write_text
from cnnjax.core.text import plain
from cnnjax.runs.results.collect import collect
from cnnjax.runs.results.judged import CLAIMS, claim_row, judge
from cnnjax.runs.results.rows import FIGURES, PROVENANCE, Result, figures, provenance
from cnnjax.runs.seal import RunError

_HEADING = """# Results

Accuracy in percent, mean ± standard deviation over the seeds; of the model at the end of the
training, or the best on the validation data where a run monitors it. "Reported" is the figure that
was reported for Keras. "(error)": the mean absolute error of a forecast, in units of the training
part's standard deviation. Every row is made from run records: `cnnjax results DIR` renews the rows
of the runs that it finds there and leaves everything else as it is.

## Figures

## Where and how
"""


@dataclass(frozen=True)
class _Table:
    """A table of the file.

    Args:
        heading: of its section.
        columns: of it.
        key: how many columns, the first ones, say which row it is.
        by: the column by which rows stand together; "" sorts them by their key alone.
        text: of its section, where the file lacks it.
        before: the heading of the section before which it is put then; "" puts it at the end.
    """

    heading: str
    columns: Sequence[str]
    key: int = 3
    by: str = ""
    text: str = ""
    before: str = ""


_FIGURES = _Table("Figures", FIGURES)
_PROVENANCE = _Table("Where and how", PROVENANCE)
_CLAIMS = _Table(
    "Claims",
    CLAIMS,
    key=5,
    by="command",
    text="""First arm minus second over pairs, mostly of one seed, mean and 95 % interval by
Student's t; accuracies, and gaps between training and validation, in percent. A claim holds if the
whole interval lies above 0, or the bound that is named, and does not hold if it lies wholly at or
below; "alike within" holds if the interval lies within the bound on either side. The interval knows
the chance of initial values and order, not that of other data; and every claim is judged alone: of
forty on arms that are equal one holds by chance. Training accuracy, and with it the gap, is that
while training, on altered images where there is augmentation. "seconds" are those of the median
epoch but the first; arms were trained one after another, on a machine that others shared.
""",
    before=_PROVENANCE.heading,
)
_EARLIER = _Table(
    "Earlier figures, without records",
    FIGURES,
    text="Of earlier versions, whose run records were not kept; no row above replaces them yet.\n",
)

_Rows = Mapping[tuple[str, ...], Sequence[str]]


def write_results(
    folders: Iterable[str | Path],
    file: str | Path = "RESULTS.md",
    *,
    least_seeds: int = 1,
    anew: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Write or renew the tables of results: figures, claims, where and how.

    Args:
        folders: as in `collect`.
        file: a Markdown file; whatever else is in it stays as it is.
        least_seeds: rows of fewer seeds, and claims on fewer pairs, are left out.
        anew: the tables hold nothing but these runs; figures of others move below "Earlier figures,
            without records".
        say: told what is left out, and which claims have no runs yet.

    Returns:
        Its path.

    Raises:
        RunError: if no finished run of an experiment is found, or the file is another one.
    """
    folders, target = list(folders), Path(file)
    found = collect(folders)
    results = enough_seeds(found, least_seeds, say)
    if not results:
        raise RunError(
            f"no finished run of an experiment in {', '.join(map(str, folders))}: nothing to write"
        )
    text = target.read_text(encoding="utf-8") if target.is_file() else ""
    text = text if text.strip() else _HEADING
    earlier: _Rows = {}
    for table, cells in (
        (_FIGURES, [figures(result) for result in results]),
        (_PROVENANCE, [provenance(result) for result in results]),
        (_CLAIMS, _claims(folders, found, least_seeds, say)),
    ):
        known, rows = _rows(text, table, target), _keyed(cells, table)
        if table is _FIGURES:
            earlier = _earlier(_rows(text, _EARLIER, target), rows, known if anew else {})
        text = _with(text, table, rows if anew else {**known, **rows})
    write_text(target, _with(text, _EARLIER, earlier))
    return target


def enough_seeds(results: Iterable[Result], least: int, say: Callable[[str], None]) -> list[Result]:
    """Those of so many seeds; the others are named."""
    kept = []
    for result in results:
        if len(result.runs) >= least:
            kept.append(result)
        else:
            name = ", ".join(filter(None, result.key))
            say(f"left out: {plain(name, 4096)}: {len(result.runs)} of {least} seeds")
    return kept


def _claims(
    folders: Sequence[str | Path],
    results: Sequence[Result],
    least: int,
    say: Callable[[str], None],
) -> list[list[str]]:
    judged, missing = judge(folders, results)
    for line in missing:
        say(f"not judged: {plain(line, 4096)}")
    rows = []
    for one in judged:
        if one.verdict.pairs >= least:
            rows.append(claim_row(one))
        else:
            say(f"left out: {plain(one.claim.text, 4096)}: {one.verdict.pairs} of {least} pairs")
    return rows


def _keyed(rows: Iterable[Sequence[str]], table: _Table) -> _Rows:
    made = [[_cell(value) for value in row] for row in rows]
    return {tuple(cells[: table.key]): cells for cells in made}


def _earlier(before: _Rows, rows: _Rows, known: _Rows) -> _Rows:
    """Figures that no row replaces: those that were earlier ones, and the known of others."""
    return {key: cells for key, cells in {**before, **known}.items() if key not in rows}


def _cell(text: str) -> str:
    """A text that neither a line break nor a bar makes into several, nor a tag into a page."""
    return plain(" ".join(text.split()), 4096).replace("<", "&lt;").replace("|", "\\|")


def _section(lines: Sequence[str], heading: str) -> tuple[int, int] | None:
    """First line behind a heading, and the one behind the last of its section."""
    start = next((i for i, line in enumerate(lines) if line.strip() == f"## {heading}"), None)
    if start is None:
        return None
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    return start + 1, end


def _rows(text: str, table: _Table, file: Path) -> _Rows:
    """The rows that the text has in a table; none where it may lack its section."""
    lines = text.splitlines()
    section = _section(lines, table.heading)
    if section is None:
        if table.text:
            return {}
        raise RunError(
            f"{file} has no heading '## {table.heading}': it is not a table of results that this "
            "command wrote; give another file with --out"
        )
    written = [line for line in lines[slice(*section)] if line.startswith("|")]
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in written]
    if rows and rows[0] != list(table.columns):
        raise RunError(
            f"the table below '## {table.heading}' in {file} has other columns than this command "
            "writes: move it away, or give another file with --out"
        )
    return {tuple(cells[: table.key]): cells for cells in rows[2:]}


def _sorted(rows: _Rows, table: _Table) -> list[Sequence[str]]:
    """Those of one study stand together."""
    place = list(table.columns).index(table.by) if table.by else 0
    return [rows[key] for key in sorted(rows, key=lambda key: (rows[key][place], key))]


def _with(text: str, table: _Table, rows: _Rows) -> str:
    """The text with these rows in a table; a section that it lacks is put in, if there are any."""
    lines = text.splitlines()
    section = _section(lines, table.heading)
    if section is None:
        if not rows:
            return text
        next_one = _section(lines, table.before)
        place = next_one[0] - 1 if next_one else len(lines)
        new = [f"## {table.heading}", "", *table.text.splitlines(), ""]
        lines[place:place] = new if next_one else ["", *new]
        section = _section(lines, table.heading) or (0, 0)
    start, end = section
    old = [i for i in range(start, end) if lines[i].startswith("|")]
    body = [table.columns, ["---"] * len(table.columns), *_sorted(rows, table)]
    written = [f"| {' | '.join(cells)} |" for cells in body]
    if old:
        lines[old[0] : old[-1] + 1] = written
    else:
        while not lines[end - 1].strip():
            end -= 1
        lines[end:end] = ["", *written]
    return "\n".join(lines).rstrip("\n") + "\n"
