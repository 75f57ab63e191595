"""Errors of data that is not where it was looked for."""

from __future__ import annotations


class DataNotFound(FileNotFoundError):
    """A data set that is not where it was looked for."""
