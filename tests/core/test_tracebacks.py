"""Errors in IPython: our sentences short, all others whole."""

import re

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import cnnjax as cj

CELL = "import cnnjax as cj\ndef mine():\n    return cj.create_model('mnist_konvnet')\nmine()"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    made = InteractiveShell(config=config)
    yield made
    made.restore_sys_module_state()


@pytest.fixture
def said(shell, capsys):
    def run(cell):
        capsys.readouterr()
        assert shell.run_cell(cell, store_history=False).error_in_exec is not None
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(capsys.readouterr()))

    return run


def test_an_error_of_ours_is_shown_with_the_callers_lines_alone(shell, said, capsys):
    whole = said(CELL)
    assert "cnnjax/models" in whole
    cj.load_ipython_extension(shell)
    short = said(CELL)
    assert "cnnjax/models" not in short
    assert "return cj.create_model('mnist_konvnet')" in short
    assert "mine()" in short
    assert "Did you mean 'mnist_convnet'" in short
    assert len(short) < len(whole) / 2
    shell.run_cell("%tb", store_history=False)
    assert "cnnjax/models" in capsys.readouterr().out
    cj.unload_ipython_extension(shell)
    assert said(CELL) == whole


OTHERS = {
    "the caller's": "raise ValueError('mine')",
    "a library's": "import json\njson.loads('{')",
    "a bug of ours": "import cnnjax as cj\ncj.core.trees.join(3)",
    "the caller's within ours": (
        "import cnnjax as cj\n"
        "def mine(path, leaf):\n"
        "    raise ValueError('mine')\n"
        "cj.core.trees.map_flat(mine, {'a': 1})\n"
    ),
}


@pytest.mark.parametrize("whose", OTHERS)
def test_an_error_of_another_is_shown_as_before(shell, said, whose):
    before = said(OTHERS[whose])
    cj.load_ipython_extension(shell)
    assert said(OTHERS[whose]) == before


def test_a_handler_that_was_there_before_keeps_its_errors(shell, said):
    def theirs(shell, kind, error, trace, tb_offset=None):
        print("handled by theirs:", error)

    shell.set_custom_exc((KeyError, ValueError), theirs)
    cj.load_ipython_extension(shell)
    assert "handled by theirs: 'x'" in said("{}['x']")
    assert "handled by theirs: mine" in said(OTHERS["the caller's"])
    assert "handled by theirs" not in said(CELL)
