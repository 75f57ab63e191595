"""Stands in for the package where an idea is run as a script, as experiments/cnnjax.py does."""

import sys
from importlib import import_module
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent

if __name__ == "cnnjax":
    checkout = _FOLDER.parents[1]
    sys.path[:] = [str(checkout), *(p for p in sys.path if Path(p).resolve() != _FOLDER)]
    del sys.modules[__name__]
    import_module(__name__)
