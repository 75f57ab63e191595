"""Images in files as an array: from a cache or decoded where they are indexed."""

import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data import Decoding, FileImages, Loader, UnreadableImage, load, prefetch
from cnnjax.data.dataset import Dataset

SHARED = Path(__file__).resolve().parents[4] / "shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for i in range(11):
        path = root / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def kept(folder) -> FileImages:
    return load(folder, image_size=(6, 5)).train.inputs


@pytest.fixture(scope="module")
def streamed(folder) -> FileImages:
    return load(folder, image_size=(6, 5), memory_budget=0).train.inputs


def test_a_small_folder_is_decoded_once_and_a_large_one_never(folder, kept, streamed):
    assert isinstance(kept.pixels, np.memmap)
    assert streamed.pixels is None
    assert kept.nbytes == streamed.nbytes == 11 * 6 * 5 * 3
    told: list[str] = []
    load(folder, image_size=(6, 5), memory_budget=989, progress=told.append)
    assert "decoded batch by batch" in told[-1]


@given(st.lists(st.integers(-11, 10), max_size=14), st.slices(11), st.integers(-11, 10))
@settings(max_examples=25, deadline=None)
def test_both_are_one_array(kept, streamed, rows, part, row):
    rows = np.array(rows, np.int64)
    for index in (rows, part, row):
        np.testing.assert_array_equal(kept[index], streamed[index])
    np.testing.assert_array_equal(kept[rows], np.asarray(kept)[rows])
    assert streamed[rows].shape == (len(rows), 6, 5, 3)


def test_subsets_of_subsets(kept, streamed):
    whole = np.asarray(streamed)
    for images in (kept, streamed):
        part = images.subset(np.array([9, 3, 5, 1])).subset(slice(1, None)).subset(np.array([2, 0]))
        np.testing.assert_array_equal(part[:], whole[[1, 3]])
        assert part.files == (images.files[1], images.files[3])
        assert part.shape == (2, 6, 5, 3)


def test_the_fingerprint_depends_on_contents_decoding_and_labels_not_on_the_cache(folder):
    def fingerprint(**options) -> str:
        return load(folder, **{"image_size": (6, 5), **options}).train.fingerprint

    one = fingerprint()
    assert fingerprint(memory_budget=0) == one
    others = [
        fingerprint(image_size=(5, 6)),
        fingerprint(interpolation="nearest"),
        fingerprint(resize="crop"),
        fingerprint(class_names=["b", "a"]),
        load(folder, image_size=(6, 5)).train.subset(slice(1, None)).fingerprint,
    ]
    assert len({one, *others}) == 6


@pytest.mark.parametrize("start", [0, 2, 5, 6])
def test_batches_that_are_read_two_at_a_time_come_in_their_order(kept, streamed, start):
    labels = np.arange(11, dtype=np.int32)
    ours = Loader(Dataset(kept, labels), 2, shuffle=True)
    theirs = Loader(Dataset(streamed, labels), 2, shuffle=True)
    assert (ours._overlaps, theirs._overlaps) == (False, True)
    for one, other in zip(ours.epoch(1, start), theirs.epoch(1, start), strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    batches = theirs.epoch(0)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("steps")]


def test_a_file_that_is_gone_is_named(folder, streamed, tmp_path):
    lost = FileImages(tmp_path, streamed.files, streamed.hashes, Decoding((3, 3)))
    with pytest.raises(UnreadableImage, match=r"a/00\.png: no such file"):
        lost[:1]
    with pytest.raises(UnreadableImage, match="no such file"):
        lost.cached()
    assert not list(Path(os.environ["CNNJAX_CACHE_DIR"]).glob("data/folders/.*"))


def test_a_damaged_cache_is_made_again(folder):
    first = load(folder, image_size=(4, 4)).train.inputs
    pixels, kept = first[:].copy(), Path(os.environ["CNNJAX_CACHE_DIR"]) / "data" / "folders"
    file = kept / first.content_hash[:32] / "images.npy"
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:200])
    np.testing.assert_array_equal(load(folder, image_size=(4, 4)).train.inputs[:], pixels)


@pytest.mark.parametrize("file", ["images.npy", "checksums.json"])
def test_a_cache_of_other_pixels_is_made_again(folder, tmp_path, monkeypatch, file):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    first = load(folder, image_size=(4, 4)).train.inputs
    pixels = first[:].copy()
    content = bytearray((first.cache_folder / file).read_bytes())
    content[-8:] = bytes(8)
    (first.cache_folder / file).write_bytes(content)
    told: list[str] = []
    again = load(folder, image_size=(4, 4), progress=told.append).train.inputs
    np.testing.assert_array_equal(again[:], pixels)
    assert [line.partition(", into")[0] for line in told] == [
        f"decoding 11 images of {folder} anew, since the cache is damaged"
    ]
    told.clear()
    load(folder, image_size=(4, 4), progress=told.append)
    assert told == []


def test_a_full_disk_leaves_nothing_half_written(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/data/folders/") as caught:
            load(folder, image_size=(70, 70))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data" / "folders").iterdir()) == []
    assert isinstance(load(folder, image_size=(70, 70)).train.inputs.pixels, np.memmap)


def test_two_may_decode_a_folder_at_once(streamed, tmp_path, monkeypatch):
    """The second finds the first's cache in its place, and leaves it there."""
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    first: list[FileImages] = []
    decode = FileImages._decode

    def meanwhile(self, rows):
        if not first:
            first.append(self)
            first[0] = self.cached()
            first_file.append(os.stat(first[0].pixels.filename).st_ino)
        return decode(self, rows)

    first_file: list[int] = []
    monkeypatch.setattr(FileImages, "_decode", meanwhile)
    second = streamed.cached()
    assert len(list((tmp_path / "data" / "folders").iterdir())) == 1
    assert os.stat(second.pixels.filename).st_ino == first_file[0]
    np.testing.assert_array_equal(first[0][:], second[:])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_a_writable_cache_the_images_are_in_memory(folder, tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    assert type(load(folder, image_size=(6, 5)).train.inputs.pixels) is np.ndarray


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": (0, 5)},
            r"image_size must be \(height, width\), each >= 1 and whole, got \(0, 5\)",
        ),
        ({"size": (True, True)}, r"image_size must be .* each >= 1 and whole, got \(True, True\)"),
        ({"size": (5.0, 5.0)}, r"image_size must be .* each >= 1 and whole, got \(5.0, 5.0\)"),
        ({"size": (5, 5, 3)}, r"image_size must be \(height, width\), .* got \(5, 5, 3\)"),
        ({"size": "55"}, r"image_size must be \(height, width\), .* got '55'"),
        ({"size": np.array(5)}, r"image_size must be \(height, width\), .* got array\(5\)"),
        ({"size": 5}, r"image_size must be \(height, width\)"),
        ({"channels": 4}, r"channels must be 1 \(grey\) or 3 \(RGB\), got 4"),
        ({"resize": "squeeze"}, "resize must be one of crop, stretch, pad, got 'squeeze'"),
        ({"interpolation": "cubic"}, "interpolation must be one of bilinear, nearest, got 'cubic'"),
        ({"decoder": "magick"}, "decoder must be one of pillow, fast, got 'magick'"),
        ({"decoder": "fast", "channels": 1}, "decoder='fast' is for RGB"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**{"size": (5, 5), **options})


@pytest.mark.parametrize("size", [[4, 5], np.array([4, 5]), (np.int32(4), np.uint8(5))])
def test_a_size_may_be_of_numpy(size):
    decoding = Decoding(size)
    assert decoding.size == (4, 5)
    assert repr(decoding) == repr(Decoding((4, 5)))  # of which the name of the cache is made


def test_batches_of_streamed_images_are_those_of_kept_ones(kept, streamed):
    labels = np.arange(11, dtype=np.int32) % 2
    loaders = [Loader(Dataset(i, labels), 4, shuffle=True, seed=3) for i in (kept, streamed)]
    assert [loader.decodes for loader in loaders] == [False, True]
    batches = [list(prefetch(loader.epoch(2), threaded=loader.decodes)) for loader in loaders]
    for one, other in zip(*batches, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_a_thread_makes_batches_ahead_in_order_and_stops_with_its_reader():
    made: list[int] = []

    def source():
        for i in range(100):
            made.append(i)
            yield {"x": np.full(1, i)}

    batches = prefetch(source(), ahead=2, threaded=True)
    assert [int(next(batches)["x"][0]) for _ in range(5)] == [0, 1, 2, 3, 4]
    batches.close()
    time.sleep(0.05)
    assert len(made) < 15
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_an_error_in_the_thread_reaches_the_reader():
    def source():
        yield {"x": np.zeros(1)}
        raise UnreadableImage("a.jpg: gone")

    batches = prefetch(source(), ahead=1, threaded=True)
    with pytest.raises(UnreadableImage, match=r"a\.jpg: gone"):
        list(batches)


def test_one_image_beyond_all_bounds_stops_nothing(tmp_path, monkeypatch):
    """Bombs, PostScript and floats among photos are set aside, each with its reason."""
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    rng, root = np.random.default_rng(0), tmp_path / "pets"
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / name)
    Image.new("1", (2_000_000, 1)).save(root / "a" / "long.png")
    Image.new("1", (12_000, 12_000)).save(root / "a" / "large.tif", compression="group4")
    Image.new("RGB", (5, 5)).save(root / "b" / "script.jpg", "EPS")
    Image.new("F", (5, 5), 200.0).save(root / "b" / "float.tif")
    told: list[str] = []
    data = load(root, image_size=(6, 6), progress=told.append).train
    assert len(data) == 4
    reasons = {line.split(": ")[0].strip(): line for line in "\n".join(told).splitlines()}
    assert "a side has more than 1,048,576" in reasons["a/long.png"]
    assert "more than 134,217,728" in reasons["a/large.tif"]
    assert "cannot identify image file as BMP" in reasons["b/script.jpg"]
    assert "lie in [200, 200]" in reasons["b/float.tif"]


def test_the_fast_decoder_stays_within_its_bound_on_real_photos(tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    root = SHARED / "data" / "cats_vs_dogs_small" / "test" / "cats"
    if not root.is_dir():
        pytest.skip(f"needs real data: no {root}")
    slow, fast = Decoding((150, 150)), Decoding((150, 150), decoder="fast")
    means = []
    for file in sorted(root.glob("*.jpg"))[::10]:
        means.append(np.abs(slow(file).astype(int) - fast(file)).mean())
    assert 0 < np.mean(means) < 3
    assert max(means) < 10


@pytest.mark.parametrize(("size", "shape"), [((24, 24), (96, 150)), ((30, 20), (200, 90))])
def test_the_fast_decoder_cuts_out_what_pillow_does(tmp_path, size, shape):
    pytest.importorskip("simplejpeg")
    down, right = np.linspace(0, 127, shape[0]), np.linspace(0, 127, shape[1])
    pixels = np.repeat((down[:, None] + right[None, :])[..., None], 3, axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    slow, fast = (Decoding(size, resize="crop", decoder=name) for name in ("pillow", "fast"))
    difference = np.abs(slow(tmp_path / "a.jpg").astype(int) - fast(tmp_path / "a.jpg"))
    assert difference.max() <= 4  # of a slope, whose parts differ by far more


def test_the_fast_decoder_leaves_what_is_no_plain_jpeg_to_pillow(folder, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    slow, fast = Decoding((6, 5)), Decoding((6, 5), decoder="fast")
    file = folder / "a" / "00.png"
    np.testing.assert_array_equal(fast(file), slow(file))
    turned = Image.open(file)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    np.testing.assert_array_equal(fast(tmp_path / "turned.jpg"), slow(tmp_path / "turned.jpg"))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    for decoding in (slow, fast):
        with pytest.raises(UnreadableImage, match=r"bad\.jpg: not a readable image"):
            decoding(tmp_path / "bad.jpg")
        with pytest.raises(UnreadableImage, match=r"no\.jpg: no such file"):
            decoding(tmp_path / "no.jpg")
