"""Every `>>>` example in the package runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import cnnjax

MODULES = ["cnnjax", *(m.name for m in pkgutil.walk_packages(cnnjax.__path__, "cnnjax."))]


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), verbose=False)
    assert result.failed == 0


@pytest.mark.thorough
def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        example
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(found) > 20
