"""Data: sources, splits, batches, image files."""

from cnnjax.data.captcha import CaptchaRendering, load_captchas
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
from cnnjax.data.series import Series, load_series
from cnnjax.data.sources import EMBEDDED, KNOWN, how_to_get, load, reload, tfds_directory
from cnnjax.data.text import TEXTS, Vocabulary, from_texts, load_texts
from cnnjax.data.tfds import DataNotFound, prepared_names

__all__ = [
    "EMBEDDED",
    "INTERPOLATIONS",
    "KNOWN",
    "RESIZE_POLICIES",
    "TEXTS",
    "Batch",
    "CaptchaRendering",
    "DataNotFound",
    "Dataset",
    "Decoding",
    "FileImages",
    "Loader",
    "Scan",
    "Series",
    "Splits",
    "UnreadableImage",
    "Vocabulary",
    "as_splits",
    "from_arrays",
    "from_texts",
    "how_to_get",
    "load",
    "load_captchas",
    "load_series",
    "load_texts",
    "prefetch",
    "prepared_names",
    "read_image",
    "reload",
    "resize_image",
    "scan_folder",
    "tfds_directory",
]
