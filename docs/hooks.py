"""Pages that are made from what is written elsewhere: the reference, the commands, the results."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnjax"

# Rooms whose public names are for other rooms, not for those who import cnnjax.
_INNER = ("cli", "core")

# Links of pages that lead to files where there is no site, and where they lead on it.
_LINKED = {
    "](../RESULTS.md": "](results.md",
    "](../CONTRIBUTING.md": "](contributing.md",
    "](ideas/README.md": "](ideas.md",
    "](../ideas/README.md": "](../ideas.md",
}


def on_config(config: Any) -> Any:
    """Add the pages that are made here to the navigation."""
    rooms = [{f"cnnjax.{room}": f"reference/{room}.md"} for room in _rooms()]
    top = [{"cnnjax": "reference/index.md"}]
    config.nav.append({"Reference": [*top, *rooms, {"Commands": "reference/commands.md"}]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Make those pages."""
    pages = {
        "results.md": _from_root("RESULTS.md"),
        "changelog.md": _from_root("CHANGELOG.md"),
        "contributing.md": _from_root("CONTRIBUTING.md"),
        "ideas.md": _ideas(),
        "reference/index.md": _room_page("cnnjax", PACKAGE / "__init__.pyi"),
        "reference/commands.md": _commands(),
    }
    for room, file in _rooms().items():
        pages[f"reference/{room}.md"] = _room_page(f"cnnjax.{room}", file)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have links to what is written elsewhere lead to the pages made of it."""
    for file, page in _LINKED.items():
        markdown = markdown.replace(file, page)
    return markdown


def _rooms() -> dict[str, Path]:
    """Rooms with public names, by name, and the file that has these."""
    files = [*PACKAGE.glob("*/__init__.py"), *PACKAGE.glob("[a-z]*.py")]
    named = {(f.parent if f.name == "__init__.py" else f).stem: f for f in files}
    return {room: f for room, f in sorted(named.items()) if room not in _INNER and _names(f)}


def _names(file: Path) -> list[str]:
    """Public names of a file: its `__all__`, else the classes and functions in it."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    if file.suffix == ".pyi":  # of the package itself, which imports on demand
        return [
            name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names
        ]
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    named = (node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return [node.name for node in named if not node.name.startswith("_")]


def _room_page(module: str, file: Path) -> str:
    """A page with all public names of a module; those of cnnjax itself are named rooms and more."""
    folder = file.parent if module == "cnnjax" else None
    rooms = {path.stem for path in folder.iterdir()} if folder else set()
    names = [name for name in _names(file) if name not in rooms]
    parts = [f"# {module}", "", f"::: {module}", "    options:", "      members:"]
    return "\n".join([*parts, *(f"        - {name}" for name in names)])


def _commands() -> str:
    """The help of every verb of `cnnjax`."""
    from cnnjax.cli.parser import _verbs

    parts = ["# Commands", ""]
    narrow = {**os.environ, "COLUMNS": "72"}  # as wide as a page
    for name in _verbs():
        call = [sys.executable, "-m", "cnnjax", *name.split(), "--help"]
        shown = subprocess.run(
            call, capture_output=True, text=True, check=True, cwd=ROOT, env=narrow
        )
        parts += [f"## cnnjax {name}", "", "```text", shown.stdout.strip(), "```", ""]
    return "\n".join(parts)


def _ideas() -> str:
    """The small programs of docs/ideas, with their code."""
    folder = ROOT / "docs" / "ideas"
    text = (folder / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\(([a-z_]+)\.py\)", r"(#\1)", text).replace(
        "](../../RESULTS.md)", "](results.md)"
    )
    parts = [re.sub(r"\[([^]]+)\]\(\.\./[^)]*\)", r"\1", text)]
    for file in sorted(folder.glob("*.py")):
        parts += [
            f"## {file.stem}",
            "",
            "```py",
            file.read_text(encoding="utf-8").strip(),
            "```",
            "",
        ]
    return "\n".join(parts)


def _from_root(name: str) -> str:
    """A page of the repository's root; links to files that are no pages become plain text."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\[([^]]+)\]\((?!http|#)[^)]*(?<!\.md)\)", r"\1", text)
