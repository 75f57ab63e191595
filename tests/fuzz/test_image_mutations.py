"""Image files with random bytes changed: read, or refused in one line, without a warning."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import Decoding, UnreadableImage

pytestmark = pytest.mark.thorough

NOISE = np.random.default_rng(0).integers(0, 256, (21, 17, 4), dtype=np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def originals():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker of cameras"
    grey_16 = (NOISE[..., 0].astype(np.uint16) << 8) + NOISE[..., 1]
    colours = Image.fromarray(NOISE[..., :3])
    palette = colours.quantize(16)
    return [
        encoded(colours, "JPEG", exif=exif),
        encoded(NOISE, "PNG", exif=exif),
        encoded(grey_16, "PNG"),
        encoded(NOISE, "WEBP", exif=exif),
        encoded(colours, "BMP"),
        encoded(colours, "PPM"),
        encoded(grey_16, "TIFF", tiffinfo={274: 6}),
        encoded(NOISE, "TIFF", compression="tiff_lzw"),
        encoded(colours, "MPO", save_all=True, append_images=[colours]),
        encoded(palette, "GIF", transparency=3),
    ]


def mutated(content, rng):
    """Bytes changed, mostly in the header; sometimes a part is cut off, taken out or doubled."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        most = len(changed) if rng.random() < 0.4 else min(200, len(changed))
        changed[int(rng.integers(most))] = int(rng.choice([0, 1, 127, 255, rng.integers(256)]))
    start, stop = sorted(rng.integers(0, len(changed), 2).tolist())
    kind = rng.random()
    if kind < 0.1:
        return bytes(changed[:stop])
    if kind < 0.15:
        return bytes(changed[:start] + changed[stop:])
    return bytes(changed[:stop] + changed[start:]) if kind < 0.2 else bytes(changed)


def read_all(count, seed):
    """How many of so many mutations are read, and how long the slowest takes, in seconds."""
    decoding, rng, files = Decoding((8, 8)), np.random.default_rng(seed), originals()
    read, slowest, errors = 0, 0.0, []
    for number in range(count):
        content = mutated(files[number % len(files)], rng)
        start = time.perf_counter()
        try:
            pixels = decoding.decoded(content, "a\x1b.jpg")
            read += 1
            assert pixels.shape == (8, 8, 3)
        except UnreadableImage as error:
            errors.append(str(error))
        slowest = max(slowest, time.perf_counter() - start)
    assert all(error.isprintable() for error in errors)
    assert {error[:32] for error in errors} == {r"a\x1b.jpg: not a readable image ("[:32]}
    return read, slowest


def nothing_said(captured):
    """Python printed nothing; libtiff prints what it finds in damaged data past all of Python."""
    return not captured.out and "Warning" not in captured.err and "PIL" not in captured.err


def test_some_mutations_of_image_files(capfd):
    read, slowest = read_all(600, 1)
    assert 100 < read < 500
    assert slowest < 10
    assert nothing_said(capfd.readouterr())


@pytest.mark.slow
def test_many_mutations_of_image_files(capfd):
    read, slowest = read_all(10_000, 2)
    assert read > 1000
    assert slowest < 10
    assert nothing_said(capfd.readouterr())
