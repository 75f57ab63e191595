"""The library of array_record files, which not every machine has a wheel of."""

from __future__ import annotations

from typing import Any

from cnnjax.core.text import plain


def array_record(what: str) -> Any:
    """The library's module.

    Args:
        what: cannot be read or written without it.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ValueError(
            f"{what} need array_record, which is not installed here ({plain(error)}): pip install "
            "array_record, where there is a wheel of it (Linux, macOS on Apple silicon), or give "
            "a folder of images, a .npz or a .csv file"
        ) from None
    return array_record_module
