"""cnnjax: research with convolutional networks in JAX.

The public names stand in `__init__.pyi`. Each is imported when it is first asked for, so that
`import cnnjax` takes no time and `cj.plot` needs no import of its own.
"""

from typing import Any

import lazy_loader

_named, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _named(name)
    if name == "__version__":
        from importlib.metadata import version

        return version("cnnjax")
    from cnnjax.core.habits import not_there

    raise AttributeError(not_there(name, __all__))
