"""Image files of every kind, and sizes against Pillow by hand."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from cnnjax.data import UnreadableImage, read_image, resize_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def saved(image, path, **options):
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


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


def test_a_damaged_exif_does_not_spoil_the_picture(tmp_path):
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


def test_content_that_pillow_does_not_know_is_named(tmp_path):
    path = saved(RGB, tmp_path / "a.png", format="DDS")
    content = bytearray(path.read_bytes())
    content[80:84] = (1).to_bytes(4, "little")  # flags of a pixel format that nobody has
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"not a readable image \(Unknown pixel format"):
        read_image(path)


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


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match="resize must be one of crop, stretch, pad, got 'zoom'"):
        resize_image(PHOTO, (8, 8), "zoom")
