"""Bit depth x transparency x palette x animation, against composites by hand of the raw samples.

The files are written here sample by sample, or by tifffile: no Pillow on the other side, but for
formats that it alone writes.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import color

from cnnjax.data import UnreadableImage, read_image
from cnnjax.data.pixels.image_modes import is_plain
from cnnjax.data.readers import tfds_images

HEIGHT, WIDTH = 9, 13
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
PNG_COLOURS = {"grey": (0, 1), "RGB": (2, 3), "palette": (3, 1), "LA": (4, 2), "RGBA": (6, 4)}


def rng():
    """The same numbers, whichever tests ran before."""
    return np.random.default_rng(0)


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def rows_of(samples, depth):
    """PNG's rows, unfiltered: samples [h, w, bands] of so many bits."""
    lines = []
    for row in samples.reshape(len(samples), -1):
        if depth == 16:
            content = row.astype(">u2").tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth)[::-1]) & 1
            content = np.packbits(bits.astype(np.uint8)).tobytes()
        lines.append(b"\0" + content)
    return b"".join(lines)


def png(samples, depth, colours, palette=None, trns=None, interlaced=False, extra=b""):
    """A PNG file of raw samples [H, W, bands]."""
    height, width, _ = samples.shape
    kind = PNG_COLOURS[colours][0]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    if interlaced:  # Adam7
        starts = (
            (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
            (1, 0, 2, 1),
        )  # fmt: skip
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in starts]
        body = b"".join(rows_of(part, depth) for part in parts if part.size)
    else:
        body = rows_of(samples, depth)
    chunks = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), extra]
    if palette is not None:
        chunks.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if trns is not None:
        chunks.append(chunk(b"tRNS", trns))
    return b"".join([*chunks, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")])


def tiff(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def check(tmp_path, content, colours, alpha=1.0, tolerance=1.0):
    """Colours and alpha [H, W, 1 or 3] in [0, 1], composed on white, are what is read."""
    path = tmp_path / "image"
    path.write_bytes(content)
    wanted = np.broadcast_to(255 * (alpha * colours + (1 - alpha)), (*colours.shape[:2], 3))
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.shape == wanted.shape
    assert np.abs(read - wanted).max() <= tolerance
    grey = read_image(path, channels=1)
    assert np.abs(grey[..., 0] - wanted @ LUMA).max() <= tolerance + 1


def samples_of(bands, depth):
    """Random ones, of which some are equal: the last of them is at [0, 0] and elsewhere."""
    samples = rng().integers(0, 2**depth, (HEIGHT, WIDTH, bands))
    samples[2:4, 3:7] = samples[0, 0]
    return samples


@pytest.mark.parametrize("interlaced", [False, True], ids=["in rows", "interlaced"])
@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "tRNS"])
@pytest.mark.parametrize(
    ("colours", "depth"),
    [("grey", 1), ("grey", 2), ("grey", 4), ("grey", 8), ("grey", 16), ("RGB", 8), ("RGB", 16)],
)
def test_png_of_one_transparent_colour(tmp_path, colours, depth, transparent, interlaced):
    bands = PNG_COLOURS[colours][1]
    samples = samples_of(bands, depth)
    if depth == 16:  # one that is transparent by its high bytes only
        samples[5, 5] = samples[0, 0] ^ 1
    key = samples[0, 0]
    trns = struct.pack(f">{bands}H", *key) if transparent else None
    hole = transparent & (samples == key).all(axis=-1, keepdims=True)
    content = png(samples, depth, colours, trns=trns, interlaced=interlaced)
    check(tmp_path, content, samples / (2**depth - 1), 1 - hole)


@pytest.mark.parametrize("interlaced", [False, True], ids=["in rows", "interlaced"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colours", ["LA", "RGBA"])
def test_png_with_alpha(tmp_path, colours, depth, interlaced):
    samples = samples_of(PNG_COLOURS[colours][1], depth)
    samples[0, :4, -1], samples[1, :4, -1] = 0, 2**depth - 1
    values = samples / (2**depth - 1)
    content = png(samples, depth, colours, interlaced=interlaced)
    check(tmp_path, content, values[..., :-1], values[..., -1:])


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [None, [0], [255, 0], [7, 200]], ids=str)
def test_png_of_a_palette(tmp_path, depth, alphas):
    colours = rng().integers(0, 256, (2**depth, 3))
    numbers = samples_of(1, depth)
    alpha = np.full(2**depth, 255)
    alpha[: len(alphas or ())] = alphas or ()
    content = png(numbers, depth, "palette", colours, None if alphas is None else bytes(alphas))
    check(tmp_path, content, colours[numbers[..., 0]] / 255, alpha[numbers] / 255)


def test_an_animated_png_shows_its_default_image(tmp_path):
    samples = samples_of(3, 8)
    control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    extra = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control)
    content = png(samples, 8, "RGB", extra=extra)
    second = chunk(b"fcTL", struct.pack(">I", 1) + control[4:])
    frame = struct.pack(">I", 2) + zlib.compress(rows_of(255 - samples, 8))
    end = chunk(b"IEND", b"")
    content = content.removesuffix(end) + second + chunk(b"fdAT", frame) + end
    check(tmp_path, content, samples / 255, tolerance=0)


@pytest.mark.parametrize("key", [None, 1, 3])
def test_the_first_frame_of_an_animated_gif_and_its_transparent_colour(tmp_path, key):
    colours, numbers = rng().integers(0, 256, (4, 3), dtype=np.uint8), samples_of(1, 2)[..., 0]
    frames = []
    for number in (numbers, 3 - numbers):
        frame = Image.fromarray(number.astype(np.uint8), "P")
        frame.putpalette(colours.tobytes())
        frames.append(frame)
    file, options = io.BytesIO(), {} if key is None else {"transparency": key}
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], optimize=False, **options)
    hole = (numbers == key)[..., None]
    check(tmp_path, file.getvalue(), colours[numbers] / 255, 1 - hole, tolerance=0)


def test_a_gif_of_greys_and_its_transparent_one(tmp_path):
    """Which Pillow opens as grey, not as a palette."""
    greys = rng().integers(0, 256, (HEIGHT, WIDTH))
    frame = Image.fromarray(greys.astype(np.uint8))
    file = io.BytesIO()
    frame.save(file, "GIF", transparency=int(greys[0, 0]), optimize=False)
    hole = (greys == greys[0, 0])[..., None]
    check(tmp_path, file.getvalue(), greys[..., None] / 255, 1 - hole, tolerance=0)


def test_a_palette_with_alpha_beside_it(tmp_path):
    colours, samples = rng().integers(0, 256, (256, 3), dtype=np.uint8), samples_of(2, 8)
    image = Image.frombytes("PA", (WIDTH, HEIGHT), samples.astype(np.uint8).tobytes())
    image.putpalette(colours.tobytes())
    file = io.BytesIO()
    image.save(file, "TIFF")
    with Image.open(file) as opened:
        assert opened.mode == "PA"
    check(tmp_path, file.getvalue(), colours[samples[..., 0]] / 255, samples[..., 1:] / 255)


def test_the_first_page_of_a_tiff_and_the_first_frame_of_a_webp(tmp_path):
    one, other = (np.full((HEIGHT, WIDTH, 4), value, np.uint8) for value in (60, 200))
    check(tmp_path, tiff(np.stack([one, other])[..., :3], photometric="rgb"), one[..., :3] / 255)
    file = io.BytesIO()
    frames = [Image.fromarray(frame) for frame in (one, other)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    check(tmp_path, file.getvalue(), one[..., :3] / 255, one[..., 3:] / 255)


STORED = [
    {},
    {"compression": "zlib"},
    {"byteorder": ">"},
    {"compression": "zlib", "byteorder": ">"},
]


@pytest.mark.parametrize("stored", [*STORED, {"compression": "zlib", "predictor": True}], ids=str)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("extra", ["unspecified", "assocalpha", "unassalpha"])
def test_tiff(tmp_path, bands, bits, extra, stored):
    samples = samples_of(bands, bits).astype(f"u{bits // 8}")
    white, options = 2**bits - 1, dict(stored)
    values, alpha = samples / white, np.ones(1)
    if bands == 1:
        samples, options["photometric"] = samples[..., 0], "minisblack"
    else:
        options["photometric"] = "rgb"
    if bands == 4:
        options["extrasamples"] = [extra]
        if extra == "assocalpha":
            samples[..., :3] = np.round(values[..., :3] * values[..., 3:] * white)
        values, alpha = values[..., :3], alpha if extra == "unspecified" else values[..., 3:]
    # Pillow divides what is multiplied by an alpha of 8 bits, and multiplies it again.
    check(tmp_path, tiff(samples, **options), values, alpha, tolerance=2 if bits == 8 else 1)


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha"])
def test_grey_tiff_with_alpha(tmp_path, extra):
    samples = samples_of(2, 8).astype(np.uint8)
    values = samples / 255
    if extra == "assocalpha":
        samples[..., 0] = np.round(values[..., 0] * values[..., 1] * 255)
    content = tiff(samples, photometric="minisblack", extrasamples=[extra], planarconfig="contig")
    check(tmp_path, content, values[..., :1], values[..., 1:])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stored", STORED[:2], ids=str)
def test_tiff_whose_zero_is_white(tmp_path, bits, stored):
    samples = samples_of(1, bits).astype(f"u{bits // 8}")
    content = tiff(samples[..., 0], photometric="miniswhite", **stored)
    check(tmp_path, content, 1 - samples / (2**bits - 1))


@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_tiff(tmp_path, bits):
    samples = samples_of(4, bits).astype(f"u{bits // 8}")
    ink = samples / (2**bits - 1)
    wanted = (1 - ink[..., :3]) * (1 - ink[..., 3:])
    check(tmp_path, tiff(samples, photometric="separated"), wanted, tolerance=3)


def test_lab_tiff(tmp_path):
    rgb = rng().integers(80, 180, (HEIGHT, WIDTH, 3)) / 255
    samples = np.round(color.rgb2lab(rgb) * [2.55, 1, 1])
    content = tiff(samples.astype(np.int16).astype(np.uint8), photometric="cielab")
    # Its white is D50, scikit-image's D65, which shifts a colour, saturated ones most.
    check(tmp_path, content, color.lab2rgb(samples / [2.55, 1, 1]), tolerance=18)


def test_cmyk_jpeg_as_adobe_writes_it_inverted(tmp_path):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:8, :, 0], ink[:, 8:, 3] = 200, 100
    file = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(file, "JPEG", quality=100)
    assert b"Adobe" in file.getvalue()
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    share = ink / 255
    wanted = 255 * (1 - share[..., :3]) * (1 - share[..., 3:])
    assert np.abs(read_image(tmp_path / "a.jpg") - wanted).max() <= 6


@pytest.mark.parametrize("most", [255, 1023, 65535])
@pytest.mark.parametrize(("magic", "bands"), [("P5", 1), ("P6", 3), ("P2", 1), ("P3", 3)])
def test_pgm_and_ppm(tmp_path, magic, bands, most):
    samples = rng().integers(0, most + 1, (HEIGHT, WIDTH, bands))
    if magic in ("P5", "P6"):
        body = samples.astype(">u2" if most > 255 else "u1").tobytes()
    else:
        body = " ".join(map(str, samples.ravel())).encode()
    content = f"{magic}\n{WIDTH} {HEIGHT}\n{most}\n".encode() + body
    check(tmp_path, content, samples / most)


def test_16_bits_mean_the_same_in_every_format(tmp_path):
    samples = np.arange(65536 - 3 * 85, 65536).reshape(5, 17, 3)
    head = b"P6\n17 5\n65535\n"
    files = {
        "png": png(samples, 16, "RGB"),
        "tiff": tiff(samples.astype(np.uint16), photometric="rgb"),
        "packed": tiff(samples.astype(np.uint16), photometric="rgb", compression="zlib"),
        "ppm": head + samples.astype(">u2").tobytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert read_image(tmp_path / name).tolist() == (samples // 257).tolist(), name
    grey = samples[..., 0]
    files = {
        "png": png(grey[..., None], 16, "grey"),
        "tiff": tiff(grey.astype(np.uint16), photometric="minisblack", byteorder=">"),
        "pgm": b"P5\n17 5\n65535\n" + grey.astype(">u2").tobytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        read = read_image(tmp_path / name, channels=1)[..., 0]
        assert read.tolist() == (grey // 257).tolist(), name


def test_a_12_bit_tiff_is_not_dark(tmp_path):
    values = np.array([[0, 1000, 2048, 4095]])
    packed = bytes([0x00, 0x03, 0xE8, 0x80, 0x0F, 0xFF])
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (279, 6)]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 14) + packed + struct.pack("<H", len(entries))
    check(tmp_path, head + tags + bytes(4), values[..., None] / 4095)


UNKNOWN = [np.int8, np.int16, np.int32, np.uint32, np.float32]


@pytest.mark.parametrize("most", [1, 255, 65535])
@pytest.mark.parametrize("dtype", UNKNOWN)
def test_what_is_white_of_other_numbers_is_not_guessed(tmp_path, dtype, most):
    values = np.linspace(0, most, 35).reshape(5, 7).astype(dtype)
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric="minisblack"))
    with pytest.raises(UnreadableImage, match=r"save it (with 8 or 16 bits|unsigned)"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers(tmp_path, value):
    values = np.array([[0, 1, value]], np.float32)
    (tmp_path / "a.tif").write_bytes(tiff(values, photometric="minisblack"))
    with pytest.raises(UnreadableImage, match="with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 1\n-1.0\n" + values.tobytes())
    with pytest.raises(UnreadableImage, match="with 8 or 16 bits"):
        read_image(tmp_path / "a.pfm")


def test_planes_of_16_bits_that_pillow_would_scramble(tmp_path):
    planes = rng().integers(0, 65536, (3, HEIGHT, WIDTH)).astype(np.uint16)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    check(tmp_path, tiff(planes, compression="zlib", **options), planes.transpose(1, 2, 0) / 65535)
    (tmp_path / "a.tif").write_bytes(tiff(planes, **options))
    with pytest.raises(UnreadableImage, match="lie in planes: save it with them side by side"):
        read_image(tmp_path / "a.tif")
    small = (planes >> 8).astype(np.uint8)
    check(tmp_path, tiff(small, **options), small.transpose(1, 2, 0) / 255, tolerance=0)


def test_tiles_beyond_the_image_are_not_decoded(tmp_path):
    samples = samples_of(3, 8).astype(np.uint8)
    content = tiff(samples, photometric="rgb", tile=(16, 16), compression="zlib")
    check(tmp_path, content, samples / 255, tolerance=0)
    for tag in (322, 323):
        at = next(
            at for kind in (3, 4) if (at := content.find(struct.pack("<HHI", tag, kind, 1))) > 0
        )
        content = content[: at + 8] + struct.pack("<I", 65520) + content[at + 12 :]
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImage, match="its tiles of 65,520 x 65,520 pixels are larger"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        (png(samples_of(1, 8), 8, "grey"), True),
        (png(samples_of(3, 8), 8, "RGB"), True),
        (png(samples_of(1, 8), 8, "grey", trns=b"\0\1"), False),
        (png(samples_of(3, 8), 8, "RGB", trns=bytes(6)), False),
        (png(samples_of(3, 16), 16, "RGB"), False),
        (png(samples_of(1, 16), 16, "grey"), False),
        (png(samples_of(4, 8), 8, "RGBA"), False),
    ],
)
def test_which_images_are_plain(content, plain):
    with Image.open(io.BytesIO(content)) as image:
        assert is_plain(image) == plain


def test_images_of_tfds_are_upright_and_plain_or_refused():
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    samples = samples_of(3, 8).astype(np.uint8)
    Image.fromarray(samples).save(file, "PNG", exif=exif)
    assert tfds_images._pixels(file.getvalue(), "").tolist() == np.rot90(samples, -1).tolist()
    for content in (png(samples, 8, "RGB", trns=bytes(6)), png(samples_of(3, 16), 16, "RGB")):
        with pytest.raises(ValueError, match="image 3 has the mode RGB with transparency or 16 b"):
            tfds_images._pixels(content, "image 3")


def test_rows_are_converted_some_at_a_time(tmp_path, monkeypatch):
    for number, content in enumerate(
        [
            png(samples_of(4, 16), 16, "RGBA"),
            png(samples_of(1, 4), 4, "grey", trns=b"\0\3"),
            png(samples_of(3, 8), 8, "RGB"),
            png(
                samples_of(1, 8), 8, "palette", rng().integers(0, 256, (256, 3)), bytes(range(256))
            ),
        ]
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        whole = read_image(path)
        with monkeypatch.context() as patch:
            patch.setattr("cnnjax.data.pixels.image_modes._PIXELS_AT_ONCE", 4 * WIDTH)
            assert read_image(path).tolist() == whole.tolist()
