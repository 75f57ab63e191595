"""From nothing to data: TFDS directories written from their raw files, without TensorFlow."""

from cnnjax.data.prepare.building import prepare
from cnnjax.data.prepare.known import RECIPES, RawFile, raw_files

__all__ = ["RECIPES", "RawFile", "prepare", "raw_files"]
