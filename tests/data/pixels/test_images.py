"""Image files of every kind, and sizes against Pillow by hand."""

import io
import os
import resource
import socket
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from cnnjax.data import Decoding, UnreadableImage, read_image, resize_image
from cnnjax.data.pixels import image_files
from cnnjax.data.pixels.image_files import _Allowance, upright_size

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def saved(image, path, **options):
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def listening(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.close()


def test_rgb(tmp_path):
    pixels = read_image(saved(RGB, tmp_path / "a.png"))
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == RGB.tolist()


def test_grey_is_repeated_into_three_channels_or_kept_as_one(tmp_path):
    path = saved(GREY, tmp_path / "a.png")
    assert read_image(path, channels=1).tolist() == GREY[..., None].tolist()
    assert read_image(path).tolist() == np.stack([GREY] * 3, axis=-1).tolist()


def test_rgb_becomes_grey_by_luma(tmp_path):
    grey = read_image(saved(RGB, tmp_path / "a.png"), channels=1)
    assert grey.shape == (5, 7, 1)
    luma = RGB @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert np.abs(grey[..., 0] - luma).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    alpha = np.zeros((5, 7), np.uint8)
    alpha[1:3], alpha[3:] = 128, 255
    colours = RGB if mode == "RGBA" else GREY[..., None]
    image = Image.fromarray(np.concatenate([colours, alpha[..., None]], axis=-1))
    assert image.mode == mode
    pixels = read_image(saved(image, tmp_path / "a.png"))
    share = alpha[..., None] / 255
    assert np.abs(pixels - (share * colours + (1 - share) * 255)).max() <= 1
    assert (pixels[0] == 255).all()
    assert pixels[3:].tolist() == np.broadcast_to(colours[3:], (2, 7, 3)).tolist()


def test_a_palette(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    assert image.mode == "P"
    pixels = read_image(saved(image, tmp_path / "a.png"))
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert pixels.tolist() == palette[np.asarray(image)].tolist()


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    hole = np.asarray(image) == 3
    pixels = read_image(saved(image, tmp_path / "a.png", transparency=3))
    assert hole.any()
    assert (pixels[hole] == 255).all()
    assert pixels[~hole].tolist() == np.asarray(image.convert("RGB"))[~hole].tolist()


def test_cmyk(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:8, :, 0] = 255  # cyan above, white below
    image = Image.fromarray(cmyk, mode="CMYK")
    pixels = read_image(saved(image, tmp_path / "a.tiff"))
    assert pixels[2, 2].tolist() == [0, 255, 255]
    assert pixels[12, 2].tolist() == [255, 255, 255]


def test_16_bits_are_scaled_to_8(tmp_path):
    values = np.array([[0, 255, 257], [32896, 65279, 65535]], np.uint16)
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    path = saved(image, tmp_path / "a.png")
    assert read_image(path, channels=1)[..., 0].tolist() == (values // 257).tolist()
    assert read_image(path)[1, 2].tolist() == [255, 255, 255]


def test_black_and_white(tmp_path):
    path = saved(Image.fromarray(GREY > 127), tmp_path / "a.png")
    assert read_image(path, channels=1)[..., 0].tolist() == ((GREY > 127) * 255).tolist()


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_the_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(RGB, tmp_path / "a.png", exif=exif)
    assert read_image(path).tolist() == upright(RGB).tolist()


def test_a_damaged_exif_does_not_spoil_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.5
    path = saved(RGB, tmp_path / "a.jpg", exif=exif)
    whole = path.read_bytes()
    wanted = read_image(path)
    # A rational number where the standard has a whole one: the orientation is legible still.
    path.write_bytes(whole.replace(b"\x01\x1a", b"\x01\x01"))
    assert read_image(path).tolist() == wanted.tolist()
    # A TIFF header that is none, within: nothing is legible.
    assert whole.count(b"Exif\0\0MM\0*") == 1
    path.write_bytes(whole.replace(b"Exif\0\0MM\0*", b"Exif\0\0MMMM"))
    assert read_image(path).tolist() == np.rot90(wanted).tolist()


@pytest.mark.parametrize(
    "error", [struct.error("required argument"), NotImplementedError("format"), AttributeError("x")]
)
def test_whatever_pillow_raises_the_file_is_called_unreadable(tmp_path, monkeypatch, error):
    def fail(image):
        raise error

    path = saved(RGB, tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", fail)  # the pixels are whole
    assert read_image(path).tolist() == RGB.tolist()
    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(UnreadableImage, match=rf"a\.png: not a readable image \({error}\)"):
        read_image(path)


@pytest.mark.parametrize("other", ["DDS", "EPS", "ICO", "PCX", "TGA", "JPEG2000", "PDF"])
def test_only_formats_that_are_named_are_opened(tmp_path, other):
    path = saved(RGB, tmp_path / "a.png", format=other)
    with pytest.raises(
        UnreadableImage,
        match=r"a\.png: not a readable image \(cannot identify image file as BMP, GIF,",
    ):
        read_image(path)


def test_no_program_is_started_for_postscript(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("a.jpg", "a.png", "a.eps"):
        with pytest.raises(UnreadableImage):
            read_image(saved(RGB, tmp_path / name, format="EPS"))
    assert not (tmp_path / "ran").exists()


def test_lack_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    def fail(image):
        raise MemoryError

    path = saved(RGB, tmp_path / "a.png")
    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(MemoryError):
        read_image(path)


def test_the_first_frame_of_a_gif(tmp_path):
    frames = [Image.new("L", (4, 3), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.unique(read_image(tmp_path / "a.gif")).tolist() == [10]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tiff"])
def test_other_formats(tmp_path, suffix):
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    pixels = read_image(saved(smooth, tmp_path / f"a.{suffix}"))
    tolerance = {"jpg": 12, "webp": 24}.get(suffix, 0)
    assert np.abs(pixels.astype(int) - smooth).max() <= tolerance


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableImage, match=rf"{tmp_path}/none\.png: no such file"):
        read_image(tmp_path / "none.png")


def text(path):
    path.write_text("this is no image\n")


def empty(path):
    path.write_bytes(b"")


def cut(path):
    saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), path)
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.parametrize("values", [[0, 70000], [-1, 3], [0.0, 0.5, 1.0], [0.0, np.nan]])
def test_pixels_of_an_unknown_range_are_named(values, tmp_path):
    dtype = np.float32 if isinstance(values[-1], float) else np.int32
    path = tmp_path / "wide.tiff"
    Image.fromarray(np.array([values], dtype)).save(path)
    with pytest.raises(UnreadableImage, match=r"wide\.tiff: .*its pixels lie in .*8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("make", [text, empty, cut, lambda path: path.mkdir()])
def test_what_is_no_image_is_named(tmp_path, make):
    make(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=r"a\.png: not a readable image \(.+\)"):
        read_image(tmp_path / "a.png")


def test_an_image_that_pillow_takes_for_a_bomb_is_named(tmp_path, monkeypatch):
    path = saved(RGB, tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImage, match=r"a\.png: not a readable image \(.*decompression"):
        read_image(path)


def header_of(width, height):
    """A PNG file that announces a size, and whose pixels are black as far as they go."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((100_000_000, 1), "100,000,000 x 1 pixels: a side has more than 1,048,576"),
        ((1, 2_000_000), "1 x 2,000,000 pixels: a side has more than 1,048,576"),
        ((13_000, 13_000), "13,000 x 13,000 pixels are more than 134,217,728 in all"),
        ((1_048_576, 129), "1,048,576 x 129 pixels are more than"),
        ((60_000, 60_000), "exceeds limit"),
    ],
)
@pytest.mark.parametrize("bomb_limit", [Image.MAX_IMAGE_PIXELS, None])
def test_images_beyond_all_bounds_are_not_decoded(tmp_path, monkeypatch, size, message, bomb_limit):
    (tmp_path / "a.png").write_bytes(header_of(*size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", bomb_limit)
    monkeypatch.setattr(PngImageFile, "load", lambda image: pytest.fail("decoded"))
    if bomb_limit is None and "limit" in message:
        message = "60,000 x 60,000 pixels are more than"
    with pytest.raises(UnreadableImage, match=rf"a\.png: not a readable image \(.*{message}"):
        read_image(tmp_path / "a.png")


def test_a_photo_of_100_million_pixels_is_within_the_bounds(tmp_path, recwarn):
    path = saved(Image.new("L", (12_000, 9_000), 77), tmp_path / "a.jpg")
    pixels = read_image(path, channels=1)
    assert pixels.shape == (9_000, 12_000, 1)
    assert (pixels[::100, ::100] == 77).all()
    assert not list(recwarn)


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    with open(tmp_path / "a.bmp", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableImage, match=r"a\.bmp: .*1,099,511,627,776 bytes are more than"):
        Decoding((8, 8))(tmp_path / "a.bmp")


def test_all_threads_together_have_one_allowance():
    allowance, most, now, high = _Allowance(100), threading.Lock(), [0], [0]

    def work(amount):
        with allowance.held(amount):
            with most:
                now[0] += amount
                high[0] = max(high[0], now[0])
            time.sleep(0.001)
            with most:
                now[0] -= amount

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [30, 100, 60, 1, 99, 50, 50, 7] * 8))
    assert now == [0]
    assert 30 < high[0] <= 100


def test_what_fails_gives_back_its_part_of_the_allowance(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "_IN_WORK", _Allowance(5000))
    cut(tmp_path / "a.png")  # of 64 x 64
    for _ in range(3):
        with pytest.raises(UnreadableImage):
            read_image(tmp_path / "a.png")
    read_image(saved(RGB, tmp_path / "b.png"))
    assert image_files._IN_WORK._left == 5000


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: os.symlink("/dev/zero", p), listening])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, make):
    path = tmp_path / "a.jpg"
    make(path)
    for read in (read_image, Decoding((8, 8)), upright_size):
        with pytest.raises(
            UnreadableImage, match=r"a\.jpg: .*is a (pipe|device|socket), not a reg"
        ):
            read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp", "ppm"])
def test_a_file_that_is_cut_off_is_an_error_in_every_format(tmp_path, suffix):
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    path = saved(smooth, tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    read_image(path)
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UnreadableImage, match=r"a\..*: not a readable image"):
            read_image(path)


def test_what_phones_write_as_mpo(tmp_path):
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    path, other = tmp_path / "a.jpg", Image.fromarray(255 - smooth)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth).save(path, "MPO", save_all=True, append_images=[other], exif=exif)
    with Image.open(path) as opened:
        assert opened.format == "MPO"
    assert np.abs(read_image(path).astype(int) - np.rot90(smooth, -1)).max() <= 12


ORIENTED = [
    lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.swapaxes(0, 1),
    lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90,
]  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "suffix", ["jpg", "png", "webp", "tif", "deflated.tif", "8.tif", "16.tif", "mpo"]
)
def test_sizes_are_those_of_the_upright_image_in_every_format(tmp_path, suffix, orientation):
    exif, options = Image.Exif(), {}
    exif[0x0112] = orientation
    image = np.repeat(np.repeat(RGB, 8, axis=0), 8, axis=1)
    if suffix in ("8.tif", "16.tif"):  # which Pillow maps to memory
        image = image[..., 0] if suffix == "8.tif" else image[..., 0].astype(np.uint16) * 257
    if suffix.endswith("tif"):
        options = {"tiffinfo": {274: orientation}}
        if suffix == "deflated.tif":
            options["compression"] = "tiff_deflate"
    else:
        options = {"exif": exif, "lossless": True, "quality": 100}
    path = saved(image, tmp_path / f"a.{suffix}", **options)
    read = read_image(path)
    assert upright_size(path) == read.shape[:2]
    wanted = ORIENTED[orientation - 1](np.repeat(np.repeat(RGB, 8, axis=0), 8, axis=1))
    if suffix in ("8.tif", "16.tif"):
        wanted = np.repeat(wanted[..., :1], 3, axis=-1)
    assert read.shape == wanted.shape
    if suffix not in ("jpg", "mpo"):
        assert read.tolist() == wanted.tolist()
    assert np.abs(read.astype(int) - wanted).mean() < 40


def test_no_warning_of_pillow_is_heard_or_becomes_an_error(tmp_path, capfd):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker's long name"
    path = saved(RGB, tmp_path / "a.jpg", exif=exif)
    wanted = np.rot90(read_image(saved(RGB, tmp_path / "b.jpg")), -1)
    content = path.read_bytes()
    at = content.index(struct.pack(">HHI", 0x010F, 2, 20))
    path.write_bytes(content[: at + 4] + struct.pack(">I", 60_000) + content[at + 8 :])
    for action in ("error", "always"):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter(action)
            before = list(warnings.filters)
            assert read_image(path).tolist() == wanted.tolist()
            assert warnings.filters == before
        assert heard == []
    with pytest.warns(UserWarning, match="Skipping tag"), Image.open(path) as image:
        image.getexif()
    assert capfd.readouterr() == ("", "")


def test_the_palettes_of_indexed_images_with_alphas_cause_no_warning(tmp_path, recwarn):
    image = Image.fromarray(RGB).quantize(8)
    read_image(saved(image, tmp_path / "a.png", transparency=bytes(range(8))), channels=1)
    assert not list(recwarn)


def test_any_other_number_of_channels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        read_image(saved(RGB, tmp_path / "a.png"), channels=4)


def pillow(image, size):
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


PHOTO = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_crop_takes_the_largest_centred_part():
    square = resize_image(PHOTO, (20, 20))
    assert square.tolist() == pillow(PHOTO[:, 10:50], (20, 20)).tolist()
    # 40 x 60 into 10 x 30: all columns, 20 rows.
    wide = resize_image(PHOTO, (10, 30), "crop")
    assert wide.tolist() == pillow(PHOTO[10:30], (10, 30)).tolist()
    # An odd pixel is left at the right and bottom.
    odd = resize_image(PHOTO[:39], (13, 13))
    assert odd.tolist() == pillow(PHOTO[:39, 10:49], (13, 13)).tolist()


def test_stretch_takes_all_of_it():
    assert resize_image(PHOTO, (21, 9), "stretch").tolist() == pillow(PHOTO, (21, 9)).tolist()


def test_pad_adds_black_bars():
    padded = resize_image(PHOTO, (30, 30), "pad")
    assert padded[5:25].tolist() == pillow(PHOTO, (20, 30)).tolist()
    assert not padded[:5].any()
    assert not padded[25:].any()
    tall = resize_image(PHOTO.swapaxes(0, 1).copy(), (30, 30), "pad")
    assert tall[:, 5:25].tolist() == pillow(PHOTO.swapaxes(0, 1).copy(), (30, 20)).tolist()
    assert not tall[:, :5].any()


@pytest.mark.parametrize("policy", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_are_resized_like_pixels(policy, channels):
    pixels = PHOTO[..., :channels]
    floats = resize_image(pixels.astype(np.float32), (17, 23), policy)
    assert floats.dtype == np.float32
    whole = resize_image(pixels, (17, 23), policy)
    assert whole.shape == floats.shape == (17, 23, channels)
    assert np.abs(floats - whole).max() <= 1.0  # Pillow rounds after each of its two passes


@pytest.mark.parametrize("policy", ["crop", "stretch", "pad"])
def test_an_image_of_that_size_comes_back_as_it_is(policy):
    assert resize_image(PHOTO, (40, 60), policy) is PHOTO


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["crop", "stretch", "pad"]),
)
def test_any_size_becomes_any_other(size, target, policy):
    image = np.full((*size, 1), 200, np.uint8)
    resized = resize_image(image, target, policy)
    assert resized.shape == (*target, 1)
    assert set(np.unique(resized)) <= ({200, 0} if policy == "pad" else {200})
    assert (resized == 200).any()


def test_a_box_that_rounding_puts_outside_the_image():
    # (243 / 196) * 196 > 243 in floating point.
    assert resize_image(np.ones((533, 243, 3), np.uint8), (265, 196)).shape == (265, 196, 3)


@pytest.mark.parametrize("policy", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1), (200_000, 3)])
def test_strips_are_resized_within_bounds(policy, size):
    """Pillow's horizontal pass of a high strip to this width would hold 800 MB."""
    strip = np.full((*size, 3), 90, np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        resized = resize_image(strip, (30, 1000), policy)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert resized.shape == (30, 1000, 3)
    assert set(np.unique(resized)) <= {0, 90}
    assert (resized == 90).any()


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match="resize must be one of crop, stretch, pad, got 'zoom'"):
        resize_image(PHOTO, (8, 8), "zoom")


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["crop", "stretch", "pad"]),
    st.sampled_from(["bilinear", "nearest"]),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_a_jpeg_is_read_without_copies_to_the_same_bits(shape, size, policy, interpolation):
    """Against the same pixels as a PNG, which takes the way of all other images."""
    pixels = np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    Image.open(jpeg).save(png, "PNG")
    decoding = Decoding(size, 3, policy, interpolation)
    one, other = (decoding.decoded(file.getvalue(), "") for file in (jpeg, png))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (*size, 3)
