"""Ways to read the order of a file's layers, where names do not say which layer is which."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cnnjax.core.text import plain
from cnnjax.weights import StoredLayer, StoredWeights

# Two are enough to know that there is no one way; more are compared, since arrays may be equal.
MAX_WAYS = 8

# Of a search over groups in groups, which ends soon for any net that a person has made.
_MAX_STEPS = 20_000

# Of a message, in which names of a file stand.
_MAX_MESSAGE = 4_000

_AUTOMATIC_NUMBER = re.compile(r"([a-z0-9_]*?[a-z][a-z0-9]*)(?:_([0-9]{1,9}))?")


class WeightsDoNotFit(ValueError):
    """A weight file of another model; a message of one line."""

    def __init__(self, message: object):
        super().__init__(plain(message, _MAX_MESSAGE))


@dataclass(frozen=True)
class Wanted:
    """A layer of the model that is looked for.

    Args:
        name: of it.
        kind: as Keras 3 names groups of files, e.g. "conv2d"; "" where it has no such.
        shapes: of its weights, in Keras' order.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]

    def fits(self, layer: StoredLayer, kind: str) -> bool:
        """Whether a layer of the file has these shapes, and is of this kind where that is known."""
        if kind and self.kind and kind != self.kind:
            return False
        return tuple(array.shape for array in layer.arrays.values()) == self.shapes


Way = dict[str, StoredLayer]
KindOf = Callable[[StoredLayer], str]


def ways(
    stored: StoredWeights, wanted: Sequence[Wanted], kinds: Mapping[str, str]
) -> Iterator[Way]:
    """Every way in which the order of a file's layers gives each wanted one a layer that fits.

    Args:
        stored: layers of a Keras file.
        wanted: in Keras' order.
        kinds: of layers by Keras' classes, e.g. {"Conv2D": "conv2d"}.
    """

    def kind_of(layer: StoredLayer) -> str:
        return layer.kind or (kinds.get(layer.described.kind, "") if layer.described else "")

    if len(stored.layers) < len(wanted):
        return
    if stored.ordered:
        way = _in_sequence(stored.layers, wanted, kind_of)
        if way is None and all(kind_of(layer) for layer in stored.layers):
            way = _kind_by_kind(stored.layers, wanted, kind_of)
        if way is not None:
            yield way
    elif any(layer.kind for layer in stored.layers):
        yield from islice(_through_groups(stored.layers, wanted), MAX_WAYS)
    else:
        for layers in (list(stored.layers), _by_number(stored.layers)):
            way = _in_sequence(layers, wanted, kind_of)
            if way is not None:
                yield way


def _in_sequence(
    layers: Sequence[StoredLayer], wanted: Sequence[Wanted], kind_of: KindOf
) -> Way | None:
    """The first one for the first one, and so on."""
    pairs = list(zip(wanted, layers, strict=False))
    if all(want.fits(layer, kind_of(layer)) for want, layer in pairs):
        return {want.name: layer for want, layer in pairs}
    return None


def _kind_by_kind(
    layers: Sequence[StoredLayer], wanted: Sequence[Wanted], kind_of: KindOf
) -> Way | None:
    """The first convolution for the first convolution, and so on."""
    queues: dict[str, list[StoredLayer]] = defaultdict(list)
    for layer in layers:
        queues[kind_of(layer)].append(layer)
    way: Way = {}
    for want in wanted:
        queue = queues[want.kind]
        if not queue or not want.fits(queue[0], want.kind):
            return None
        way[want.name] = queue.pop(0)
    return way


def _by_number(layers: Sequence[StoredLayer]) -> list[StoredLayer]:
    """Layers of each nested model by the numbers in their names.

    Legacy files list the trainable weights of a nested model before the frozen ones, so that the
    first layers come last where they were frozen; numbers show it where names are automatic.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    numbers: dict[int, int] = {}
    for i, layer in enumerate(layers):
        match = _AUTOMATIC_NUMBER.fullmatch(layer.name)
        if match and layer.place[:1] != (layer.name,):
            groups[layer.place[0], match[1]].append(i)
            numbers[i] = int(match[2] or 0)
    order = list(range(len(layers)))
    for places in groups.values():
        for place, source in zip(places, sorted(places, key=numbers.__getitem__), strict=True):
            order[place] = source
    return [layers[i] for i in order]


@dataclass
class _Group:
    """Layers of a file of Keras 3 that lie in one group, by kind, in the order of their numbers."""

    layers: dict[str, list[StoredLayer]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[str, list[_Group]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def tree(cls, layers: Sequence[StoredLayer]) -> _Group:
        """The root of all."""
        known: dict[tuple[str, ...], _Group] = {(): cls()}

        def at(place: tuple[str, ...]) -> _Group:
            if place not in known:
                known[place] = cls()
                at(place[:-1]).groups[re.sub("_[0-9]+$", "", place[-1])].append(known[place])
            return known[place]

        for layer in layers:
            own = 2 if layer.place[-1] == "cell" else 1
            at(layer.place[:-own]).layers[layer.kind].append(layer)
        return known[()]

    @property
    def size(self) -> int:
        """How many lists of layers or groups there are."""
        return sum(map(len, self.layers.values())) + sum(map(len, self.groups.values()))


def _through_groups(layers: Sequence[StoredLayer], wanted: Sequence[Wanted]) -> Iterator[Way]:
    """Every order of the layers that keeps nets in nets together and the numbers of each kind.

    A group of layers says in which order those of one kind come, and not where among them a nested
    net stands. So wherever one could begin both ways are tried, and shapes decide.
    """
    steps = 0

    def search(
        number: int, open_groups: tuple[_Group, ...], used: dict[tuple[int, str], int]
    ) -> Iterator[Way]:
        nonlocal steps
        steps += 1
        if number == len(wanted):
            yield {}
            return
        if steps > _MAX_STEPS:
            raise WeightsDoNotFit("its nets in nets can be read in too many ways")
        want, group = wanted[number], open_groups[-1]
        at = (id(group), want.kind)
        queue = group.layers.get(want.kind, [])
        if used.get(at, 0) < len(queue) and want.fits(queue[used.get(at, 0)], want.kind):
            layer = queue[used.get(at, 0)]
            for rest in search(number + 1, open_groups, {**used, at: used.get(at, 0) + 1}):
                yield {want.name: layer, **rest}
        for kind, groups in group.groups.items():
            at = (id(group), f"{kind}/")
            if used.get(at, 0) < len(groups):
                inner = groups[used.get(at, 0)]
                yield from search(number, (*open_groups, inner), {**used, at: used.get(at, 0) + 1})
        done = sum(count for (owner, _), count in used.items() if owner == id(group))
        if len(open_groups) > 1 and done == group.size:
            yield from search(number, open_groups[:-1], used)

    yield from search(0, (_Group.tree(layers),), {})
