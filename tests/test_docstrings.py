"""Every `>>>` example in the package runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import cnnjax

MODULES = ["cnnjax", *(m.name for m in pkgutil.walk_packages(cnnjax.__path__, "cnnjax."))]


class Finder(doctest.DocTestFinder):
    """Finds examples of decorated functions too, which doctest takes for their decorator's."""

    def _from_module(self, module, found):
        return super()._from_module(module, inspect.unwrap(found) if callable(found) else found)


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(verbose=False)
    for test in Finder().find(importlib.import_module(name)):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.thorough
def test_there_are_examples():
    finder = Finder(exclude_empty=True)
    found = [
        example
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(found) > 20
