"""The rooms of the package: an import goes only downward, flax stays where it belongs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from commands import ROOT, python


def test_imports_go_only_downward() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_every_name_is_there_without_what_windows_has_not() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'termios', 'pwd')))\n"
        "import cnnjax as cj; print(all(getattr(cj, name) for name in cj.__all__))"
    )
    assert python("-c", code).stdout == "True\n"
