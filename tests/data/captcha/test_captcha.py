"""CAPTCHAs: drawn from a key and nothing else, cached, and refused where they cannot be."""

from __future__ import annotations

import importlib.util
import json
import random
import resource
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cnnjax.data import CaptchaRendering, load_captchas, reload
from cnnjax.data.captcha import captchas, drawing
from cnnjax.data.captcha.captchas import RENDERERS, SYMBOLS, random_text
from cnnjax.data.captcha.drawing import Draws


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> str:
    return request.param


# Images


def test_a_image_is_a_function_of_text_and_key(renderer: str) -> None:
    draw = CaptchaRendering(renderer)
    first = draw("A7K2", "0 test 1")
    np.testing.assert_array_equal(first, draw("A7K2", "0 test 1"))
    assert (first.shape, first.dtype) == ((64, 160, 1), np.uint8)
    for other in (draw("A7K2", "0 test 2"), draw("A7K3", "0 test 1")):
        assert (other != first).mean() > 0.01


def test_nobody_elses_random_numbers_are_touched(renderer: str) -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    CaptchaRendering(renderer)("A7K2", "0")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_the_package_is_drawn_with_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from captcha import image

    assert image.secrets is secrets
    ours = CaptchaRendering("captcha", channels=3)("A7K2", "5")
    assert image.secrets is secrets

    source = drawing._Source()
    source.draws = Draws("captcha 5")
    monkeypatch.setattr(image, "secrets", source)
    sizes = tuple(round(s * 64 / 60) for s in (42, 50, 56))
    theirs = image.ImageCaptcha(160, 64, font_sizes=sizes).generate_image("A7K2")
    np.testing.assert_array_equal(ours, np.asarray(theirs.convert("RGB")))


def ink(one_image: np.ndarray) -> np.ndarray:
    """How dark each column is."""
    return (np.median(one_image) - one_image[..., 0].astype(float)).clip(30).mean(axis=0) - 30


def test_symbols_stand_where_the_text_has_them() -> None:
    draw = CaptchaRendering()
    wide, thin = (
        np.mean([ink(draw(text, f"{i}")) for i in range(30)], axis=0) for text in ("WIWI", "IWIW")
    )
    quarters = (wide - thin).reshape(4, 40).sum(axis=1)
    assert (np.sign(quarters) == [1, -1, 1, -1]).all(), quarters


@pytest.mark.parametrize("pair", ["0O", "1I"])
def test_symbols_that_are_easily_mistaken_differ_in_pillows_font(pair: str) -> None:
    first, second = (np.asarray(drawing._glyph(symbol, 60)) > 127 for symbol in pair)
    # Even when one is stretched to the other's width, as no distortion does.
    narrow, wide = sorted((first, second), key=lambda glyph: glyph.any(axis=0).sum())
    assert wide.any(axis=0).sum() - narrow.any(axis=0).sum() >= 7


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(RENDERERS),
    st.integers(1, 6),
    st.integers(16, 90),
    st.integers(0, 120),
    st.sampled_from([1, 3]),
)
def test_any_size_and_length(kind: str, length: int, height: int, more: int, channels: int) -> None:
    size = (height, 8 * length + more)
    rendering = CaptchaRendering(kind, length, size=size, channels=channels)
    one_image = rendering(random_text(rendering, "0"), "0")
    assert one_image.shape == (*size, channels)
    assert one_image.std() > 0


def test_coloured_images_are_coloured(renderer: str) -> None:
    one_image = CaptchaRendering(renderer, channels=3)("A7K2", "0").astype(int)
    assert np.abs(one_image[..., 0] - one_image[..., 2]).max() > 10


def test_random_numbers_are_spread_as_they_should_be() -> None:
    draws = Draws("x")
    whole = [draws.whole(3, 7) for _ in range(5000)]
    assert stats.chisquare(np.bincount(whole, minlength=8)[3:]).pvalue > 1e-3
    assert (
        stats.kstest([draws.between(-1, 3) for _ in range(5000)], "uniform", (-1, 4)).pvalue > 1e-3
    )
    grain = draws.grain(10_001)
    assert (grain.shape, grain.dtype) == ((10_001,), np.int16)
    assert stats.chisquare(np.bincount(grain + 128, minlength=256)).pvalue > 1e-3


def test_texts_are_spread_evenly_over_the_symbols() -> None:
    texts = [random_text(CaptchaRendering(), f"{i}") for i in range(3000)]
    for symbols in zip(*texts, strict=True):
        counts = [symbols.count(symbol) for symbol in SYMBOLS]
        assert sum(counts) == 3000
        assert stats.chisquare(counts).pvalue > 1e-3


# Data sets


def test_parts_have_images_labels_and_names() -> None:
    splits = load_captchas(5, 3, 2, seed=1)
    assert {name: len(part) for name, part in splits.parts.items()} == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }
    for name, part in splits.parts.items():
        assert (part.labels.dtype, part.labels.shape[1:]) == (np.int32, (4,))
        assert part.label_names == tuple(SYMBOLS)
        draw = CaptchaRendering()
        for i, (image, numbers) in enumerate(zip(part.inputs, part.labels, strict=True)):
            text = "".join(SYMBOLS[k] for k in numbers)
            np.testing.assert_array_equal(image, draw(text, f"1 {name} {i}"))
    assert load_captchas(1, 0).test is None


def test_more_images_begin_with_the_same_ones_and_a_seed_changes_all() -> None:
    few, many, other = (load_captchas(n, 2, seed=s) for n, s in ((2, 0), (5, 0), (5, 1)))
    np.testing.assert_array_equal(few.train.inputs, many.train.inputs[:2])
    np.testing.assert_array_equal(few.train.labels, many.train.labels[:2])
    assert few.test.fingerprint == many.test.fingerprint != other.test.fingerprint
    image_list = [p.tobytes() for s in (many, other) for p in (*s.train.inputs, *s.test.inputs)]
    assert len(set(image_list)) == len(image_list)


def test_images_are_drawn_once_and_a_damaged_cache_again(tmp_path: Path) -> None:
    told: list[str] = []
    first = load_captchas(3, 2, progress=told.append).train
    assert isinstance(first.inputs, np.memmap)
    assert len(told) == 2
    assert "drawing 3 CAPTCHAs once, into" in told[0]
    load_captchas(3, 2, progress=told.append)
    assert len(told) == 2
    files = sorted((tmp_path / "cache").rglob("images.npy"))
    assert len(files) == 2
    for file in files:
        cut_off = file.read_bytes()[:500]
        file.unlink()  # what is mapped stays as it is
        file.write_bytes(cut_off)
    again = load_captchas(3, 2, progress=told.append).train
    assert len(told) == 4
    assert again.fingerprint == first.fingerprint
    assert not list((tmp_path / "cache").rglob(".*"))


def test_without_a_writable_cache_images_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = load_captchas(3, 1).train.fingerprint
    monkeypatch.setenv("CNNJAX_CACHE_DIR", "/proc/nowhere")
    train = load_captchas(3, 1).train
    assert not isinstance(train.inputs, np.memmap)
    assert train.fingerprint == cached


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/captcha/") as caught:
            load_captchas(20, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "data" / "captcha").iterdir()) == []
    assert isinstance(load_captchas(20, 0).train.inputs, np.memmap)


def test_another_version_of_what_draws_is_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    load_captchas(2, 0, progress=told.append)
    monkeypatch.setattr(captchas.metadata, "version", lambda name: "99")
    load_captchas(2, 0, progress=told.append)
    assert len(told) == 2


def test_a_record_makes_them_again(renderer: str) -> None:
    splits = load_captchas(
        4, 2, seed=3, renderer=renderer, length=3, symbols="AB1", size=(32, 64), channels=3
    ).with_train_examples(2)
    again = reload(json.loads(json.dumps(splits.source)))
    assert {k: v.fingerprint for k, v in again.parts.items()} == {
        k: v.fingerprint for k, v in splits.parts.items()
    }
    assert again.source == json.loads(json.dumps(splits.source))


def test_numpys_whole_numbers_are_pythons() -> None:
    given: dict[str, Any] = {
        "train": np.int64(2), "test": np.int32(1), "validation": np.uint8(0), "seed": np.int64(3),
        "length": np.int64(3), "size": (np.int64(32), np.uint8(64)), "channels": np.int64(1),
    }  # fmt: skip
    told: list[str] = []
    plain = load_captchas(2, 1, seed=3, length=3, size=(32, 64))
    splits = load_captchas(**given, progress=told.append)
    assert told == []  # the same cache
    assert json.dumps(splits.source) == json.dumps(plain.source)


# What cannot be


@pytest.mark.parametrize("setting", [{"length": 6}, {"bogus": 1, "size": (32, 64)}])
def test_settings_beside_a_rendering_are_refused(setting: dict[str, Any]) -> None:
    message = f"rendering is given, and {', '.join(setting)} beside it: give the settings to"
    with pytest.raises(ValueError, match=message):
        load_captchas(2, 0, rendering=CaptchaRendering(), **setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"renderer": "pilow"}, r"there is no renderer 'pilow'\. Did you mean 'pillow'"),
        ({"length": 0}, "length must be a whole number >= 1, got 0"),
        ({"length": 2.0}, r"length must be a whole number >= 1, got 2\.0"),
        ({"symbols": "AB?"}, r"symbols='AB\?' holds '\?': letters and digits of ASCII are needed"),
        ({"symbols": "AÄ"}, "holds 'Ä': letters and digits of ASCII"),
        ({"symbols": "ABA"}, "symbols='ABA' holds 'A' more than once"),
        ({"symbols": ""}, "symbols must be a text such as '0123456789"),
        ({"size": (15, 160)}, r"for length=4 at least \(16, 32\), got \(15, 160\)"),
        ({"size": (64, 31)}, r"for length=4 at least \(16, 32\), got \(64, 31\)"),
        ({"size": 64}, r"size must be \(height, width\), .* got 64"),
        ({"size": (64, 160.0)}, r"size must be \(height, width\)"),
        ({"channels": 2}, r"channels must be 1 \(grey\) or 3 \(RGB\), got 2"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptchaRendering(**setting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A7K", "text must have 4 symbols, got 'A7K'"),
        ("A7K2B", "text must have 4 symbols"),
        ("A7k2", "text='A7k2' holds 'k', which is none of 0123456789ABC"),
    ],
)
def test_a_text_that_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaptchaRendering()(text, "0")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 0}, "train must be a whole number >= 1, got 0"),
        ({"test": -1}, "test must be a whole number >= 0, got -1"),
        ({"validation": 1.5}, r"validation must be a whole number >= 0, got 1\.5"),
    ],
)
def test_a_number_that_cannot_be_is_named(counts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_captchas(**counts)


@pytest.fixture
def _forget_the_package() -> Iterator[None]:
    drawing.captcha_package.cache_clear()
    yield
    drawing.captcha_package.cache_clear()


@pytest.mark.usefixtures("_forget_the_package")
def test_without_the_package_it_is_named_and_pillow_still_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "captcha" else find(name)
    )
    with pytest.raises(ValueError, match=r"needs the package captcha: pip install 'captcha>=0\.7'"):
        CaptchaRendering("captcha")
    assert CaptchaRendering("pillow")("A7K2", "0").any()


@pytest.mark.usefixtures("_forget_the_package")
def test_a_package_that_draws_its_numbers_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image.py").write_text("import random\n")
    spec = importlib.util.spec_from_file_location("image", tmp_path / "image.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="does not draw its random numbers from `secrets`"):
        CaptchaRendering("captcha")
