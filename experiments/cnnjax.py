"""Stands in for the package, for a moment, where a file beside it is run as a script.

Python puts the folder of a script ahead of everything: of `python experiments/separable.py` this
file is found as `cnnjax`, captcha.py would be taken for the package captcha, and no package
`experiments` is found, or another one. So the checkout takes the place of that folder, and the
package that of this file.
"""

import sys
from importlib import import_module
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent

if __name__ == "cnnjax":
    sys.path[:] = [str(_FOLDER.parent), *(p for p in sys.path if Path(p).resolve() != _FOLDER)]
    del sys.modules[__name__]
    import_module(__name__)
