"""What the filters of a net look for, from its first layers to its deep ones, with numbers.

Filters of each layer are chosen at random, and for each a pattern is found that excites it
(`cj.explain.filter_patterns`). Of a pattern are measured

wavelength      the mean, over the energy of its brightness, of a wave's length in pixels: how wide
                its structures are;
orientation     |sum E exp(2 i angle)| / sum E, from 0, no direction more than another, to 1, bars;
colour          the share of its energy that is not brightness.

That structures widen with depth could come of receptive fields alone, which do so in any net: the
same is measured with random weights. The claims compare the deepest layer with the first one, and
with the same layer with random weights. Filters are independent, so that it does not matter which
makes a pair with which. Of the whole row of layers the rank correlation with depth is printed, with
the share of the orders of layers in which it would be as far from 0.

They would be refuted by deep patterns no wider than shallow ones or than those of random weights,
and by colours and directions that do not get weaker.

Command:   python -m experiments.filters_by_depth --weights MOBILENET_0.25.h5 [--out DIR]
           python -m experiments.filters_by_depth --net vgg19 --weights VGG19.npz

Reported:  images, no figure: edges and colours first, then textures, then parts of things.

Ours:      of MobileNet .25, in the images: flat colours, bars, textures, eyes. The numbers do not
           follow them all (12 filters a layer, one run on two CPU cores). Wavelength 51.6 pixels at
           conv1, whose patterns hardly vary, so that what there is of a wave is long; then 25.3,
           21.9, 38.2, 40.7 at conv_pw_3, 5, 9, 11. The deepest against the first: -8.3 (95 % from
           -14.0 to -2.7), does not hold; against random weights -2.9 (-11.2 to 5.3), not decided.
           Direction .400 against .307, colour .308 against .045: not decided.
           Of VGG19's blocks 1 to 3 (--filters 8 --size 64 --steps 40) none of the four is decided.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy import stats

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import rng
from cnnjax.core.checks import whole_number
from cnnjax.explain.filters import find_patterns
from cnnjax.models.pretrained.fill import PartlyLoaded
from cnnjax.recipes import Measured, write_claims
from experiments import _studies
from experiments._images import Gallery, ImageOptions

LAYERS = {
    "mobilenet": ("conv1_relu", "conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu",
                  "conv_pw_9_relu", "conv_pw_11_relu"),
    "vgg19": ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2", "block3_conv1",
              "block3_conv4"),
}  # fmt: skip
_MOST_RANKED = 8  # layers, of which all orders are gone through
MEASURES = ("wavelength", "orientation", "colour")
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    photo: Annotated[str | None, tyro.conf.Suppress] = None
    net: Literal["mobilenet", "vgg19"] = "mobilenet"
    """Whose filters; of vgg19 blocks 1 to 3."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Of the net; one part of it is enough if it has the layers. Default: imagenet, those
    published, which are downloaded."""
    alpha: float = 0.25
    """Width of mobilenet."""
    filters: int = 12
    """Of each layer."""
    size: int = 96
    """Of the patterns, in pixels."""
    steps: int = 64
    """Of the ascent."""
    recipe: Literal["classic", "fourier"] = "fourier"
    """How patterns are found; of the classic one the noise at the beginning stays, and outweighs
    what MobileNet's filters look for."""
    layers: tuple[str, ...] = ()
    """From the first to the deepest; default: five or six of the net."""


@dataclass(frozen=True)
class Patterns:
    """Of a layer: images [F, S, S, 3] in [0, 1], and each measure [F]; those of dead filters go."""

    images: np.ndarray
    values: Mapping[str, np.ndarray]


def build(config: Config, weights: str | None) -> cj.Model:
    """The net without its head; with a part of its weights if the file has no more."""
    arguments: dict[str, Any] = {"include_top": False, "weights": weights, "seed": config.seed}
    if config.net == "mobilenet":
        arguments["alpha"] = config.alpha
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartlyLoaded)
        partial = weights not in (None, "imagenet")
        return cj.create_model(config.net, allow_partial=partial, **arguments)


def patterns_of(model: cj.Model, layer: str, config: Config) -> Patterns:
    """Of as many filters, chosen at random, as the options ask for."""
    count = cj.explain.activation_shapes(model)[layer][-1]
    wanted = min(whole_number("filters", config.filters), count)
    order = rng.permutation(count, config.seed, "filters_by_depth")
    filters = sorted(order[:wanted].tolist())
    found = find_patterns(
        model, layer, filters, config.size, config.steps, config.seed, config.recipe
    )
    alive = [number not in found.dead for number in found.numbers]
    images = found.images[alive]
    # The classic recipe shows what goes into the net: in the VGGs blue, green, red.
    if config.recipe == "classic" and model.spec.preprocessing == "caffe":
        images = images[..., ::-1]
    return Patterns(images, measured(images.astype(np.float64)))


def measured(images: np.ndarray) -> dict[str, np.ndarray]:
    """{measure: [F]} of patterns [F, S, S, 3], RGB."""
    window = np.hanning(images.shape[1] + 2)[1:-1]
    plane = window[:, None] * window[None, :]
    bright = images @ _BRIGHTNESS
    rest = images - bright[..., None]
    energy = _energy(bright, plane)
    hues = np.mean([_energy(rest[..., c], plane) for c in range(3)], axis=0)
    frequency = np.fft.fftfreq(images.shape[1])
    rows, columns = frequency[:, None], frequency[None, :]
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf  # no wave
    total = np.maximum(energy.sum(axis=(1, 2)), np.finfo(float).tiny)
    direction = np.exp(2j * np.arctan2(rows, columns))
    coloured = hues.sum(axis=(1, 2))
    return {
        "wavelength": (energy / radius).sum(axis=(1, 2)) / total,
        "orientation": np.abs((energy * direction).sum(axis=(1, 2))) / total,
        "colour": coloured / (coloured + total),
    }


def _energy(planes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Of each frequency but zero, [F, S, S], under a window that has no edges."""
    mean = (planes * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    energy: np.ndarray = np.abs(np.fft.fft2((planes - mean) * window)) ** 2
    energy[:, 0, 0] = 0
    return energy


def ranked(means: Sequence[float]) -> tuple[float, float]:
    """Spearman's correlation of a measure with the depth, and the share of orders as far from 0.

    Args:
        means: of each layer, from the first to the deepest, at most 8.

    >>> ranked([1.0, 2.0, 3.0, 5.0, 8.0])
    (1.0, 0.016666666666666666)
    """
    depths = np.arange(len(means))
    found = float(stats.spearmanr(depths, means).statistic)
    all_orders = [
        stats.spearmanr(depths, order).statistic
        for order in itertools.permutations(range(len(means)))
    ]
    return round(found, 9), float(np.mean(np.abs(all_orders) >= abs(found) - 1e-9))


def claims(trained: Mapping[str, Patterns], random: Mapping[str, Patterns]) -> tuple[Measured, ...]:
    """What is claimed of the first layer, the deepest, and the deepest with random weights."""
    first, *_, deepest = trained
    arms = {
        "first": (f"{first}, trained", trained[first]),
        "deepest": (f"{deepest}, trained", trained[deepest]),
        "random": (f"{deepest}, random weights", random[deepest]),
    }

    def one(text: str, more: str, less: str, measure: str) -> Measured:
        (name, some), (other, others) = arms[more], arms[less]
        count = min(len(some.images), len(others.images))
        return Measured(
            text, name, some.values[measure][:count].tolist(), other,
            others.values[measure][:count].tolist(), pairs="filters", metric=measure,
        )  # fmt: skip

    return (
        one("Deep filters look for wider structures than first ones.", "deepest", "first",
            "wavelength"),
        one("Deep filters look for wider structures than random weights there do.", "deepest",
            "random", "wavelength"),
        one("First filters look for one direction more than deep ones.", "first", "deepest",
            "orientation"),
        one("First filters look for colours more than deep ones.", "first", "deepest", "colour"),
    )  # fmt: skip


def draw(found: Mapping[str, Patterns], config: Config) -> Figure:
    """A row of patterns a layer, the first at the top."""
    gap, size = 3, config.size
    count = max(len(patterns.images) for patterns in found.values())
    figure = Figure((0.75 * count + 2.2, 0.85 * len(found) + 0.4), dpi=120, layout="constrained")
    for row, (layer, patterns) in enumerate(found.items(), start=1):
        strip = np.ones((size, count * (size + gap) - gap, 3))
        for k, image in enumerate(patterns.images):
            strip[:, k * (size + gap) : k * (size + gap) + size] = image
        axes: Any = figure.add_subplot(len(found), 1, row)
        axes.imshow(strip, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_anchor("E")  # what the strip leaves free is the label's
        axes.set_ylabel(layer, rotation=0, ha="right", va="center", fontsize=7)
    figure.suptitle(f"Patterns of random filters of {config.net}, {size}x{size} pixels", size=10)
    return figure


def draw_measures(arms: Mapping[str, Mapping[str, Patterns]]) -> Figure:
    """Each measure against the depth: every filter a dot, their means a line, an arm a colour."""
    figure = Figure((13, 4.4), dpi=120, layout="constrained")
    for position, measure in enumerate(MEASURES, start=1):
        axes: Any = figure.add_subplot(1, len(MEASURES), position)
        for arm, found in arms.items():
            values = [patterns.values[measure] for patterns in found.values()]
            (line,) = axes.plot([v.mean() for v in values], "-", label=arm)
            for depth, those in enumerate(values):
                axes.plot(np.full(len(those), depth), those, ".", color=line.get_color(), alpha=0.4)
        axes.set_xticks(range(len(found)), list(found), rotation=60, ha="right", fontsize=7)
        axes.set(title=measure, ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("pixels")
    figure.axes[-1].legend(fontsize=8)
    return figure


def write_numbers(
    gallery: Gallery, model: cj.Model, arms: Mapping[str, Mapping[str, Patterns]]
) -> None:
    """The table of means, and how they go with depth."""
    trained, random = arms["trained"], arms["random weights"]
    head = ["", "receptive field", "filters", *MEASURES, "wavelength, random"]
    rows = []
    for layer, patterns in trained.items():
        field = "x".join(map(str, cj.explain.receptive_field(model, layer)))
        means = [f"{patterns.values[measure].mean():.3f}" for measure in MEASURES]
        other = f"{random[layer].values['wavelength'].mean():.3f}"
        rows.append([layer, field, str(len(patterns.images)), *means, other])
    _studies.write_table(gallery.folder / "measures.md", head, rows)
    for measure in MEASURES:
        rank, share = ranked([float(p.values[measure].mean()) for p in trained.values()])
        print(f"{measure}: rank correlation with depth {rank:+.2f} (p = {share:.3f})")


def main(config: Config) -> dict[str, dict[str, Patterns]]:
    """Find, measure, draw, write the claims; {arm: {layer: patterns}}."""
    layers = config.layers or LAYERS[config.net]
    if not 2 <= len(layers) <= _MOST_RANKED:
        raise ValueError(f"layers must name 2 to {_MOST_RANKED} layers, got {len(layers)}")
    nets = {
        "trained": build(config, config.weights or "imagenet"),
        "random weights": build(config, None),
    }
    arms: dict[str, dict[str, Patterns]] = {}
    for arm, model in nets.items():
        arms[arm] = {layer: patterns_of(model, layer, config) for layer in layers}
        if silent := [layer for layer, found in arms[arm].items() if not len(found.images)]:
            raise ValueError(f"all filters of {', '.join(silent)} are dead with {arm}")
    gallery = Gallery(config, "filters_by_depth")
    gallery.add("filters", draw(arms["trained"], config))
    gallery.add("filters_random", draw(arms["random weights"], config))
    gallery.add("measures", draw_measures(arms))
    write_numbers(gallery, nets["trained"], arms)
    write_claims(gallery.folder, claims(arms["trained"], arms["random weights"]))
    gallery.report()
    return arms


if __name__ == "__main__":
    command(main, Config, "filters_by_depth")
