"""Every experiment runs as a script too, from any folder: python experiments/NAME.py."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from commands import ROOT, python

FOLDER = ROOT / "experiments"
SCRIPTS = sorted(
    file.relative_to(FOLDER).as_posix()
    for folder in ("", "benchmarks/", "research/")
    for file in FOLDER.glob(f"{folder}*.py")
    if '__name__ == "__main__"' in file.read_text()
)


@pytest.fixture
def _nothing_imported() -> Iterator[None]:
    """Nothing of ours, as far as scripts name it; what it was comes back."""

    def ours() -> dict[str, ModuleType]:
        return {
            name: module
            for name, module in sys.modules.items()
            if name in ("cnnjax", "cnnjax.cli") or name.partition(".")[0] == "experiments"
        }

    before = ours()
    for name in before:
        del sys.modules[name]
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.usefixtures("_nothing_imported")
@pytest.mark.parametrize("name", SCRIPTS)
def test_help_of_a_script(name, tmp_path, monkeypatch, capsys):
    """As Python starts it: its folder ahead of everything, and nothing of ours imported yet."""
    script = FOLDER / name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    others = [p for p in sys.path if Path(p).resolve() != ROOT]
    monkeypatch.setattr(sys, "path", [str(script.parent), *others])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code in (0, None)
    assert "usage: python -m experiments." in capsys.readouterr().out
    assert sys.path == [str(ROOT), *others]
    for package in {"cnnjax", "experiments"} & set(sys.modules):
        assert sys.modules[package].__file__ == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_imports_of_ours_first_has_a_stand_in(name):
    """Otherwise another checkout's package may come in, that the environment installed."""
    body = ast.parse((FOLDER / name).read_text()).body
    found = [alias.name for line in body if isinstance(line, ast.Import) for alias in line.names]
    found += [str(line.module) for line in body if isinstance(line, ast.ImportFrom)]
    ours = {name.partition(".")[0] for name in found} & {"cnnjax", "experiments"}
    first = "cnnjax" if "cnnjax" in ours else "experiments"  # as the linter sorts them
    assert (FOLDER / name).with_name(f"{first}.py").is_file()


@pytest.mark.parametrize("name", ["separable.py", "benchmarks/startup.py"])
@pytest.mark.thorough
def test_a_script_in_a_process_of_its_own_beside_another_package_of_that_name(name, tmp_path):
    for package in ("cnnjax", "experiments"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('another one')")
    done = python(FOLDER / name, "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert f"python -m experiments.{name.removesuffix('.py').replace('/', '.')}" in done.stdout
