"""Figures; every function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAIN, _VALIDATION = "#1f77b4", "#d95f02"


def smooth(values: Sequence[float] | np.ndarray, factor: float = 0.8) -> np.ndarray:
    """Exponential moving average, `s_t = f s_{t-1} + (1 - f) v_t`, started at the first value.

    Args:
        values: [N].
        factor: f in [0, 1); 0 changes nothing.

    Returns:
        float64 [N].

    >>> smooth([1.0, 0.0], 0.8).tolist()
    [1.0, 0.8]
    """
    if not 0 <= factor < 1:
        raise ValueError(f"factor must lie in [0, 1), got {factor}")
    result = np.array(values, np.float64)
    for i in range(1, len(result)):
        result[i] = factor * result[i - 1] + (1 - factor) * result[i]
    return result


def curves(history: Mapping[str, Sequence[float] | np.ndarray], smoothing: float = 0.0) -> Figure:
    """Loss and accuracy over the epochs: training and, if there is any, validation.

    Args:
        history: of a run: "epoch", "loss", "accuracy" and perhaps "val_loss", "val_accuracy".
        smoothing: factor of `smooth` for the lines, e.g. 0.8; the dots are always the raw values.

    Returns:
        A figure of two axes.
    """
    figure = _figure(10, 3.8)
    epochs = np.asarray(history["epoch"])
    for position, metric in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, position)
        for key, label, color in (
            (metric, "training", _TRAIN),
            (f"val_{metric}", "validation", _VALIDATION),
        ):
            if key in history:
                values = np.asarray(history[key])
                axes.plot(epochs, values, ".", color=color, alpha=0.5 if smoothing else 1.0)
                axes.plot(epochs, smooth(values, smoothing), color=color, label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    if smoothing:
        figure.suptitle(f"lines: exponential moving average, factor {smoothing:g}", fontsize=9)
    return figure


def confusion_matrix(matrix: np.ndarray, label_names: Sequence[str]) -> Figure:
    """How often each class was taken for which; colours by share of the row, numbers are counts.

    Args:
        matrix: int [K, K], rows the true class, columns the predicted one.
        label_names: K names.

    Returns:
        A figure.
    """
    count = len(label_names)
    size = min(max(4.5, 0.5 * count + 2), 16)
    figure = _figure(size, size)
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(range(count), label_names, rotation=0 if _short(label_names) else 90)
    axes.set_yticks(range(count), label_names)
    if count <= 30:
        for i, j in np.ndindex(*matrix.shape):
            if matrix[i, j]:
                color = "white" if share[i, j] > 0.5 else "black"
                axes.text(
                    j, i, str(matrix[i, j]), ha="center", va="center", color=color, fontsize=8
                )
    return figure


def image_grid(images: np.ndarray, titles: Sequence[str] | None = None, columns: int = 8) -> Figure:
    """Pictures in rows.

    Args:
        images: [N, H, W, C], uint8 or floating in [0, 255]; of other than 3 channels the first
            is shown.
        titles: N short texts.
        columns: pictures per row, >= 1.

    Returns:
        A figure.
    """
    columns = max(min(columns, len(images)), 1)
    rows = -(-len(images) // columns)
    figure = _figure(1.6 * columns, (2.1 if titles else 1.6) * max(rows, 1))
    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        if pixels.shape[-1] != 3:
            axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=255)
        else:
            axes.imshow(pixels)
        axes.set_axis_off()
        if titles:
            axes.set_title(titles[i], fontsize=8)
    return figure


def augmentation(originals: np.ndarray, copies: np.ndarray) -> Figure:
    """Pictures, each followed by augmented copies of it in its row.

    Args:
        originals: [R, H, W, C], as in `image_grid`.
        copies: [R, K, H, W, C].

    Returns:
        A figure.
    """
    rows, count = copies.shape[:2]
    pictures = np.concatenate([originals[:, None], copies], axis=1)
    flat = pictures.reshape(rows * (count + 1), *pictures.shape[2:])
    return image_grid(flat, columns=count + 1)


def _short(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) <= 3


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")
