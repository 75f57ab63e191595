"""Does the image mean anything? Explanations of models whose weights are randomised.

An image that stays while the weights that it claims to explain are destroyed shows the image, not
the model (Adebayo et al. 2018, Sanity checks for saliency maps, arXiv:1810.03292).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jax import Array

from cnnjax.core import trees
from cnnjax.core.table import table
from cnnjax.explain.cam import EmptyMap
from cnnjax.explain.inputs import checked_images
from cnnjax.explain.methods import Heatmaps, methods_at
from cnnjax.explain.similarity import rank_correlation, structural_similarity
from cnnjax.explain.targets import Target, settled
from cnnjax.models import Model
from cnnjax.models.graph import weighted_layers


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps of a model and of the same model with randomised weights are.

    Args:
        kind: "cascading" or "independent".
        methods: M names.
        groups: G names of the layers, from the top.
        rank_correlation: float [M, G], means over the images; 0 where a map is constant.
        ssim: float [M, G], likewise.
        heatmaps: float32 [M, 1 + G, N, H, W]; the first are those of the model itself.
    """

    kind: str
    methods: tuple[str, ...]
    groups: tuple[str, ...]
    rank_correlation: np.ndarray
    ssim: np.ndarray
    heatmaps: np.ndarray

    def __str__(self) -> str:
        """A table: a row per group of layers, rank correlation and SSIM of each method."""
        rows = [("", *self.methods)]
        for g, group in enumerate(self.groups):
            pairs = zip(self.rank_correlation[:, g], self.ssim[:, g], strict=True)
            rows.append(
                (group, *(f"{correlation:.2f} / {ssim:.2f}" for correlation, ssim in pairs))
            )
        return f"{self.kind} randomisation: rank correlation / SSIM\n{table(rows)}"


def randomisation(
    model: Model,
    images: Array | np.ndarray,
    methods: Mapping[str, Heatmaps] | None = None,
    target: Target = None,
    kind: str = "cascading",
    groups: int | Sequence[Sequence[str]] = 8,
    seed: int = 0,
) -> Randomisation:
    """Explain a model again and again while its weights are randomised, from the top down.

    Args:
        model: with trained weights.
        images: preprocessed inputs, [N, H, W, C] floating.
        methods: by name, as `methods_at` gives them; None takes Grad-CAM, saliency and guided
            backpropagation.
        target: as in `grad_cam`; the class predicted is that of the model with its own weights.
        kind: "cascading": each step randomises one more group, so the last has random weights
            throughout; "independent": each step randomises one group of a model else whole.
        groups: of layers: the number of groups of about equal size into which `layer_groups` puts
            them; or patterns of layers for each, from the top.
        seed: of the random weights, drawn by the layers' own initialisers.

    Returns:
        A `Randomisation`.

    Raises:
        ValueError: for an unknown kind, patterns that name no layer, no images, or what the methods
            refuse.
    """
    if kind not in ("cascading", "independent"):
        raise ValueError(f"kind must be 'cascading' or 'independent', got {kind!r}")
    if methods is None:
        methods = methods_at(None, ["grad_cam", "saliency", "guided_backpropagation"])
    inputs = checked_images(model, images)
    if not len(inputs):
        raise ValueError("images must hold at least one image")
    # Fixed, since a randomised model predicts something else.
    fixed = settled(model, model(inputs), target)
    layers = layer_groups(model, groups) if isinstance(groups, int) else groups
    random = Model.initialise(model.module, model.spec, seed)
    models, changed = [model], model
    for patterns in layers:
        whole = changed if kind == "cascading" else model
        changed = with_layers_of(whole, random, patterns)
        models.append(changed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyMap)  # that an image is lost is what is looked for
        heatmaps = np.array(
            [[np.asarray(m(each, inputs, fixed)) for each in models] for m in methods.values()]
        )
    return Randomisation(
        kind,
        tuple(methods),
        tuple(_group_name(patterns) for patterns in layers),
        _compare(rank_correlation, heatmaps),
        _compare(structural_similarity, heatmaps),
        heatmaps,
    )


def layer_groups(model: Model, count: int) -> list[list[str]]:
    """Layers with variables from the top, the topmost with a kernel alone, the others in groups.

    Args:
        model: any.
        count: of groups, >= 1; there are fewer where there are fewer layers with a kernel.

    Returns:
        Names of layers; what has no kernel (norms) stays with the layer before it.

    >>> import cnnjax as cj
    >>> layer_groups(cj.create_model("mnist_convnet"), 3)
    [['logits'], ['dense1', 'conv3'], ['conv2', 'conv1']]
    """
    if count < 1:
        raise ValueError(f"groups must be at least 1, got {count}")
    with_kernel = {
        path.rpartition("/")[0] or model.spec.name
        for path in trees.flatten(model.params)
        if "kernel" in path
    }
    units: list[list[str]] = []
    for name in weighted_layers(model):
        if name in with_kernel or not units:
            units.append([])
        units[-1].append(name)
    units.reverse()
    parts = [units[:1]] if count > 1 else []
    rest = units[len(parts) :]
    parts += [list(part) for part in _split(rest, min(count - len(parts), len(rest)))]
    return [[name for unit in part for name in unit] for part in parts if part]


def _split(items: list[list[str]], count: int) -> list[list[list[str]]]:
    """Consecutive parts of about equal length."""
    ends = [round(i * len(items) / count) for i in range(count + 1)] if count else [0]
    return [items[a:b] for a, b in itertools.pairwise(ends)]


def with_layers_of(model: Model, other: Model, patterns: Sequence[str]) -> Model:
    """A model with the variables of some layers taken from another one of the same form.

    Raises:
        ValueError: if a pattern names no variable.
    """
    ours, theirs = trees.flatten(model.variables), trees.flatten(other.variables)
    # What has no layer of its own is the model's, as in `weighted_layers`.
    layer = {path: path.partition("/")[2].rpartition("/")[0] or model.spec.name for path in ours}
    chosen = trees.select(set(layer.values()), patterns, "groups", what="layer")
    taken = {path: theirs[path] if layer[path] in chosen else leaf for path, leaf in ours.items()}
    return model.replace(variables=trees.unflatten(taken))


def _group_name(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"{patterns[0]} to {patterns[-1]}"


def _compare(measure: Callable[[np.ndarray, np.ndarray], float], maps: np.ndarray) -> np.ndarray:
    """[M, 1 + G, N, H, W] to [M, G]: each step against the first, the mean over the images."""
    values = [
        [np.mean([np.nan_to_num(measure(a, b)) for a, b in zip(steps[0], step, strict=True)])
         for step in steps[1:]]
        for steps in maps
    ]  # fmt: skip
    return np.array(values)
