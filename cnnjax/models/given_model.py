"""What is given as a model is one."""

from __future__ import annotations

from typing import Any

from cnnjax.models.model import Model


def check_model(model: Any) -> None:
    """Refuse what is no `Model`, with how it becomes one.

    Args:
        model: what was given as one.

    Raises:
        ValueError: if it is none.

    >>> check_model("lenet")
    Traceback (most recent call last):
        ...
    ValueError: model must be a Model, got str: cj.create_model('lenet') makes one
    """
    if isinstance(model, Model):
        return
    how = "cj.Model.from_module takes a Linen module, cj.Model.from_nnx one of NNX"
    if isinstance(model, str):
        how = f"cj.create_model({model!r}) makes one"
    raise ValueError(f"model must be a Model, got {type(model).__name__}: {how}")
