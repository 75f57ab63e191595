"""Images that lie in files: decoded by several threads, once into a cache or batch by batch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.runtime import cache_directory, visible_cores
from cnnjax.data.lazy import Lazy
from cnnjax.data.pixels.cache import kept_pixels, open_pixels
from cnnjax.data.pixels.decode import INTERPOLATIONS, RESIZE_POLICIES, resize_image
from cnnjax.data.pixels.image_files import image_bytes, opened_image, orientation_of
from cnnjax.data.pixels.image_modes import pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

DECODERS = ("pillow", "fast")

# Decoded splits of up to so many bytes are kept; larger ones are decoded batch by batch.
MEMORY_BUDGET = 4 * 2**30

_CACHE_FORMAT = 1
_FILES_AT_ONCE = 256


@dataclass(frozen=True)
class Decoding:
    """How an image file becomes pixels of one size.

    Args:
        size: (height, width) of the result, each >= 1.
        channels: 3 for RGB, 1 for grey.
        resize: "stretch" to the size, as Keras does with folders, or "crop" or "pad", as in
            `resize_image`.
        interpolation: "bilinear", antialiased, or "nearest", the default of Keras'
            `flow_from_directory`.
        decoder: "pillow"; or "fast" for JPEGs through simplejpeg and OpenCV (the extra `fast`),
            two to three times as fast, whose bilinear filter does not antialias: an image differs
            by up to 10 of 255 in the mean.

    Raises:
        ValueError: for a setting that cannot be, or a decoder that is not installed.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: str = "stretch"
    interpolation: str = "bilinear"
    decoder: str = "pillow"

    def __post_init__(self) -> None:
        given = self.size if isinstance(self.size, Sequence | np.ndarray) else ()
        try:
            height, width = (whole_number("image_size", n) for n in given)
        except (TypeError, ValueError):
            raise ValueError(
                f"image_size must be (height, width), each >= 1 and whole, got {self.size!r}"
            ) from None
        object.__setattr__(self, "size", (height, width))
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels!r}")
        for name, known in (
            ("resize", tuple(RESIZE_POLICIES)),
            ("interpolation", INTERPOLATIONS),
            ("decoder", DECODERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.decoder == "fast":
            _check_fast(self)

    def __call__(self, path: str | Path) -> np.ndarray:
        """uint8 [height, width, channels] of a file.

        Raises:
            UnreadableImage: if there is no such file or it cannot be decoded.
        """
        return self.decoded(image_bytes(path), str(path))

    def decoded(self, encoded: bytes, name: str) -> np.ndarray:
        """uint8 [height, width, channels] of a file's content; `name` stands for it in errors.

        Raises:
            UnreadableImage: if it cannot be decoded.
        """
        with opened_image(encoded, name) as image:
            pixels = _fast(image, encoded, self.size) if self.decoder == "fast" else None
            if pixels is None:
                pixels = pixels_of(image, self.channels)
                image.close()  # its own pixels, before those of the other size take memory
                pixels = self.resized(pixels)
            return pixels

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded pixels at the size."""
        return resize_image(pixels, self.size, self.resize, self.interpolation)


@dataclass(frozen=True, eq=False)
class FileImages(Lazy):
    """Images in files as an array uint8 [N, H, W, C] that is decoded where it is indexed.

    Args:
        root: the folder that holds them.
        files: their paths below it.
        hashes: of their contents.
        decoding: how they are read.
        pixels: uint8 [M, H, W, C], all of them decoded, as a memory-mapped cache; None: they are
            decoded at every access, by as many threads as there are cores.
        rows: where in `pixels` each image is; None: in their order.
    """

    root: Path
    files: tuple[str, ...]
    hashes: tuple[str, ...]
    decoding: Decoding
    pixels: np.ndarray | None = None
    rows: np.ndarray | None = None

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self.files), *self.decoding.size, self.decoding.channels)

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of the files' contents and of how they are read."""
        digest = hashlib.sha256(repr((_CACHE_FORMAT, asdict(self.decoding))).encode())
        digest.update("\n".join(self.hashes).encode())
        return digest.hexdigest()

    @property
    def is_read(self) -> bool:
        """Whether they are decoded."""
        return self.pixels is not None

    @property
    def cache_folder(self) -> Path:
        """Where all of them are kept once they are decoded; there or not."""
        return cache_directory() / "data" / "folders" / self.content_hash[:32]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The images at an index, a slice or an array of indices, decoded."""
        if self.pixels is not None:
            return np.asarray(self.pixels[rows if self.rows is None else self.rows[rows]])
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            return self._decode([int(chosen)])[0]
        return self._decode(chosen.tolist())

    def subset(self, rows: np.ndarray | slice) -> FileImages:
        """The files at some indices; nothing is decoded."""
        chosen = np.arange(len(self))[rows].tolist()
        return replace(
            self,
            files=tuple(self.files[i] for i in chosen),
            hashes=tuple(self.hashes[i] for i in chosen),
            rows=np.asarray(chosen if self.rows is None else self.rows[chosen]),
        )

    def cached(
        self, budget: int = MEMORY_BUDGET, progress: Callable[[str], None] | None = None
    ) -> FileImages:
        """The same images from a memory-mapped cache, which is made if need be.

        Args:
            budget: bytes; where all images would take more they stay in their files; 0 leaves
                them there without a word.
            progress: told in a sentence before something takes long.

        Raises:
            UnreadableImage: for a file that cannot be decoded.
            OSError: if the cache cannot be written, as on a full disk.
        """
        say = progress or _silent
        if self.nbytes > budget:
            if budget:
                say(
                    f"{len(self):,} images of {self.root} would take "
                    f"{self.nbytes / 2**30:.1f} GiB: more than {budget / 2**30:.1f} GiB, so they "
                    "are decoded batch by batch"
                )
            return self
        folder = self.cache_folder
        pixels = open_pixels(folder, self.shape)
        if pixels is None:
            once = "anew, since the cache is damaged" if folder.exists() else "once"
            say(f"decoding {len(self):,} images of {self.root} {once}, into {folder}")
            pixels = kept_pixels(folder, self.shape, self._batches())
        return replace(self, pixels=pixels, rows=None)

    def _batches(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _FILES_AT_ONCE):
            yield self._decode(range(start, min(start + _FILES_AT_ONCE, len(self))))

    def _decode(self, rows: Sequence[int]) -> np.ndarray:
        paths = [self.root / self.files[i] for i in rows]
        batch = np.empty((len(paths), *self.shape[1:]), np.uint8)
        for i, pixels in enumerate(decoders().map(self.decoding, paths)):
            batch[i] = pixels
        return batch


@functools.cache
def decoders() -> ThreadPoolExecutor:
    """The threads that decode; Pillow and simplejpeg let go of Python's lock while they do."""
    return ThreadPoolExecutor(max_workers=visible_cores(), thread_name_prefix="decode")


def _check_fast(decoding: Decoding) -> None:
    if (decoding.channels, decoding.resize, decoding.interpolation) != (3, "stretch", "bilinear"):
        raise ValueError(
            "decoder='fast' is for RGB with resize='stretch' and interpolation='bilinear', got "
            f"channels={decoding.channels}, resize={decoding.resize!r} and "
            f"interpolation={decoding.interpolation!r}"
        )
    try:
        import cv2
        import simplejpeg  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"decoder='fast' needs {error.name}, which is not installed: pip install 'cnnjax[fast]'"
        ) from None
    cv2.setNumThreads(1)  # the images are what is done side by side


def _fast(header: PILImage, encoded: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """A plain upright RGB JPEG by the fast libraries; None for any other file."""
    import cv2
    import simplejpeg

    if (header.format, header.mode, orientation_of(header)) != ("JPEG", "RGB", 1):
        return None
    try:
        # Scaled while it is decoded, to not less than the size.
        pixels = simplejpeg.decode_jpeg(encoded, "RGB", min_height=size[0], min_width=size[1])
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    except (OSError, ValueError, SyntaxError):
        return None  # Pillow says what is wrong with it
    return np.asarray(pixels, np.uint8)


def _silent(text: str) -> None:
    pass
