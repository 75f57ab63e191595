"""Canvases of many digits, windows of them to train on, and the peaks of class maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import cnnjax as cj

WINDOW = 28
NOTHING = 10  # the class of windows in whose middle there is no digit
NAMES = (*"0123456789", "nothing")

# Digits leave the margins of their squares nearly empty.
_APART = 25
# A digit so far from the middle of a window is not its digit.
_FAR = 7


@dataclass(frozen=True)
class Canvas:
    """An image with digits.

    Args:
        pixels: uint8 [H, W, 1].
        digits: int [D, 3]: label, top and left of each digit's square of 28 pixels.
    """

    pixels: np.ndarray
    digits: np.ndarray


def draw_canvas(
    digits: cj.data.Dataset, size: tuple[int, int], count: int, rng: np.random.Generator
) -> Canvas:
    """Random digits at random places where they do not overlap."""
    pixels = np.zeros((*size, 1), np.uint8)
    placed: list[tuple[int, int, int]] = []
    for index in rng.integers(0, len(digits), 60 * count):
        top, left = (int(rng.integers(0, n - WINDOW + 1)) for n in size)
        if any(abs(top - t) < _APART and abs(left - x) < _APART for _, t, x in placed):
            continue
        part = pixels[top : top + WINDOW, left : left + WINDOW]
        np.maximum(part, digits.inputs[int(index)], out=part)
        placed.append((int(digits.labels[int(index)]), top, left))
        if len(placed) == count:
            break
    return Canvas(pixels, np.array(placed))


def windows(
    digits: cj.data.Dataset, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of canvases to train on: half of them around a digit, half of them beside all.

    Args:
        digits: single ones, [N, 28, 28, 1].
        count: of the windows, about.
        rng: source of everything random.

    Returns:
        uint8 [M, 28, 28, 1] and int32 labels [M] in [0, 10].
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    while len(labels) < count:
        canvas = draw_canvas(digits, (110, 110), 9, rng)
        last = canvas.pixels.shape[0] - WINDOW
        for label, top, left in canvas.digits:
            y, x = (int(np.clip(v + rng.integers(-2, 3), 0, last)) for v in (top, left))
            images.append(canvas.pixels[y : y + WINDOW, x : x + WINDOW])
            labels.append(label)
        for y, x in rng.integers(0, last + 1, (20, 2)):
            distance = np.abs(canvas.digits[:, 1:] - [y, x]).max(axis=1)
            if distance.min() >= _FAR and labels.count(NOTHING) * 2 <= len(labels):
                images.append(canvas.pixels[y : y + WINDOW, x : x + WINDOW])
                labels.append(NOTHING)
    return np.stack(images), np.array(labels, np.int32)


def peaks(maps: np.ndarray, threshold: float = 0.5, reach: int = 3) -> list[tuple[int, int, int]]:
    """Where the probability of a digit is largest around.

    Args:
        maps: probabilities [h, w, 11].
        threshold: below it nothing counts.
        reach: rows and columns of the map around a peak in which there is no other.

    Returns:
        (row, column, class) of each.

    >>> maps = np.zeros((5, 9, 11)); maps[..., NOTHING] = 0.1; maps[2, 3, 7] = 0.9
    >>> peaks(maps)
    [(2, 3, 7)]
    """
    # Neighbouring windows see the same digit: their sum is a steadier place than the largest.
    sure = maps[:, :, :NOTHING].max(axis=2)
    padded = np.pad(sure, 1)
    around = np.zeros_like(sure)
    for a, b in np.ndindex(3, 3):
        around += padded[a : a + sure.shape[0], b : b + sure.shape[1]]
    found = []
    for i, j in np.ndindex(*sure.shape):
        near = around[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        if sure[i, j] >= threshold and around[i, j] == near.max():
            found.append((i, j, int(maps[i, j, :NOTHING].argmax())))
    return found


def count_read(found: list[tuple[int, int, int]], canvas: Canvas, step: int) -> int:
    """How many digits of the canvas have a peak of their class within 6 pixels."""
    return sum(
        any(k == label and max(abs(step * i - top), abs(step * j - left)) <= 6 for i, j, k in found)
        for label, top, left in canvas.digits
    )
