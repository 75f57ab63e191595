"""Data: sources, splits, batches, image files."""

from cnnjax.data.captcha.captchas import CaptchaRendering, load_captchas
from cnnjax.data.concatenate import concatenate
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.folder_export import export_folders
from cnnjax.data.foreign.from_source import from_source
from cnnjax.data.foreign.stream import Stream, stream
from cnnjax.data.foreign.stream_loader import StreamLoader
from cnnjax.data.given_arrays import from_arrays
from cnnjax.data.info import Description, describe
from cnnjax.data.label_rows import one_hot
from cnnjax.data.lazy import Lazy
from cnnjax.data.loader import Batch, Loader, prefetch
from cnnjax.data.names import EMBEDDED, KNOWN, how_to_get, prepared_names
from cnnjax.data.pixels.decode import INTERPOLATIONS, RESIZE_POLICIES, read_image, resize_image
from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.file_images import FileImages
from cnnjax.data.pixels.image_files import UnreadableImage
from cnnjax.data.prepare import RECIPES, prepare
from cnnjax.data.readers.csv_images import scan_table
from cnnjax.data.readers.folders import scan_folder
from cnnjax.data.readers.formats import reader
from cnnjax.data.readers.idx import read_idx
from cnnjax.data.readers.reader import Reading
from cnnjax.data.readers.scan import Scan
from cnnjax.data.readers.tfds import tfds_directory
from cnnjax.data.samplers import Sampler, balanced, weighted
from cnnjax.data.series.windows import Series, load_series
from cnnjax.data.sharding import shard
from cnnjax.data.sources import images_read, load, reload
from cnnjax.data.splits import Splits, as_splits
from cnnjax.data.texts import (
    TEXTS,
    Vocabulary,
    describe_texts,
    from_texts,
    holds_texts,
    load_texts,
)

__all__ = [
    "EMBEDDED",
    "INTERPOLATIONS",
    "KNOWN",
    "RECIPES",
    "RESIZE_POLICIES",
    "TEXTS",
    "Batch",
    "CaptchaRendering",
    "DataNotFound",
    "Dataset",
    "Decoding",
    "Description",
    "FileImages",
    "Lazy",
    "Loader",
    "Reading",
    "Sampler",
    "Scan",
    "Series",
    "Splits",
    "Stream",
    "StreamLoader",
    "UnreadableImage",
    "Vocabulary",
    "as_splits",
    "balanced",
    "concatenate",
    "describe",
    "describe_texts",
    "export_folders",
    "from_arrays",
    "from_source",
    "from_texts",
    "holds_texts",
    "how_to_get",
    "images_read",
    "load",
    "load_captchas",
    "load_series",
    "load_texts",
    "one_hot",
    "prefetch",
    "prepare",
    "prepared_names",
    "read_idx",
    "read_image",
    "reader",
    "reload",
    "resize_image",
    "scan_folder",
    "scan_table",
    "shard",
    "stream",
    "tfds_directory",
    "weighted",
]
