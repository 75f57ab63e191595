"""Data: sources, splits, batches, image files."""

from cnnjax.data.dataset import Dataset, Splits, as_splits, from_arrays
from cnnjax.data.files import Decoding, FileImages
from cnnjax.data.folders import Scan, scan_folder
from cnnjax.data.images import (
    INTERPOLATIONS,
    RESIZE_POLICIES,
    UnreadableImage,
    read_image,
    resize_image,
)
from cnnjax.data.loader import Batch, Loader, prefetch
from cnnjax.data.sources import EMBEDDED, KNOWN, how_to_get, load, reload, tfds_directory
from cnnjax.data.tfds import DataNotFound, prepared_names

__all__ = [
    "EMBEDDED",
    "INTERPOLATIONS",
    "KNOWN",
    "RESIZE_POLICIES",
    "Batch",
    "DataNotFound",
    "Dataset",
    "Decoding",
    "FileImages",
    "Loader",
    "Scan",
    "Splits",
    "UnreadableImage",
    "as_splits",
    "from_arrays",
    "how_to_get",
    "load",
    "prefetch",
    "prepared_names",
    "read_image",
    "reload",
    "resize_image",
    "scan_folder",
    "tfds_directory",
]
