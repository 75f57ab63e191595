"""The pickle inside a PyTorch file, followed without unpickling: tensors and plain values alone.

Nothing is imported or called: a machine of its own keeps the stack, and knows the few constructors
that a state dict consists of as names of what it makes itself. Any other is an error.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnnjax.core.text import plain
from cnnjax.weights.hdf5_child import MAX_OBJECTS

# A net of a thousand layers, with what trains it, takes some 100,000.
_MAX_STEPS = 2_000_000

_MAX_AXES = 8

# Storages by PyTorch's names, as NumPy writes their numbers; bfloat16 has no name there.
STORAGES = {
    "torch FloatStorage": "f4",
    "torch DoubleStorage": "f8",
    "torch HalfStorage": "f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}


class NoStateDict(ValueError):
    """The pickle holds more than tensors and plain values; a sentence without its subject."""


@dataclass(frozen=True)
class Storage:
    """Numbers in a member of the archive: which one, of which type, and how many."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: where it begins, its shape, and steps along each axis, in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A constructor, which is never looked up."""

    text: str


_MARK = object()


def followed(content: bytes) -> Any:
    """What a pickle describes, made of dictionaries, lists, tuples, plain values and `Tensor`s.

    Raises:
        NoStateDict: if it needs any other constructor, or is damaged.
    """
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if step > _MAX_STEPS:
                raise NoStateDict(f"has a pickle of more than {_MAX_STEPS:,} steps")
            if opcode.name == "STOP":
                return machine.pop()
            machine.take(opcode.name, argument)
    except NoStateDict:
        raise
    # What pickletools and a stack that is empty raise.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise NoStateDict(f"has a damaged pickle ({plain(error, 200)})") from None
    raise NoStateDict("has a pickle that is cut off")


class _Machine:
    """Stack and memory of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.tensors = 0

    def pop(self) -> Any:
        """The value on top."""
        return self.stack.pop()

    def take(self, name: str, argument: Any) -> None:
        """Do a step."""
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _VALUES:
            self.stack.append(_VALUES[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise NoStateDict(f"has the step {name} in its pickle, which no state dict needs")

    def marked(self) -> list[Any]:
        """All values above the last mark, taken off with it."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def name(self, text: str) -> None:
        """Put a constructor on the stack, if it is one of those that are known."""
        if text not in _MAKERS and text not in STORAGES:
            raise NoStateDict(_needs(text.replace(" ", ".", 1)))
        self.stack.append(_Name(text))

    def reduce(self) -> None:
        """Make what a constructor stands for."""
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, _Name) or name.text not in _MAKERS:
            raise NoStateDict("calls in its pickle what is no constructor of tensors")
        made = _MAKERS[name.text](*arguments)
        self.tensors += isinstance(made, Tensor)
        if self.tensors > MAX_OBJECTS:
            raise NoStateDict(f"has more than {MAX_OBJECTS:,} tensors")
        self.stack.append(made)

    def items(self, values: list[Any]) -> None:
        """Put pairs into the dictionary on top."""
        into = self.stack[-1]
        if not isinstance(into, dict) or len(values) % 2:
            raise TypeError("pairs for no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | None):
                raise TypeError("a key that is neither text nor number")
            into[key] = value

    def extend(self, values: list[Any]) -> None:
        """Put values into the list on top."""
        if not isinstance(self.stack[-1], list):
            raise TypeError("values for no list")
        self.stack[-1].extend(values)

    def tuple_of(self, count: int) -> None:
        """Take so many values off as one tuple."""
        if len(self.stack) < count:
            raise IndexError("too few values")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(values)


def _needs(name: str) -> str:
    shown = plain(repr(name), 80)
    return (
        f"needs {shown} to be read, which is code and is not run: load it in PyTorch and save its "
        "tensors alone, torch.save(model.state_dict(), 'w.pth')"
    )


def _storage(machine: _Machine, _: Any) -> None:
    """A persistent number: ("storage", type, member, device, count)."""
    kind, name, key, _device, count = machine.pop()
    if kind != "storage" or not isinstance(key, str) or not isinstance(name, _Name):
        raise TypeError("a reference to no storage")
    machine.stack.append(Storage(key, STORAGES[name.text], _whole(count)))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """A view of a storage, checked to lie within it."""
    if not isinstance(storage, Storage):
        raise TypeError("a tensor of no storage")
    sizes, steps = _size(shape), _size(strides)
    if len(sizes) != len(steps):
        raise ValueError("a tensor with other steps than axes")
    last = _whole(offset) + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
    if math.prod(sizes) and last >= storage.count:
        raise ValueError(f"a tensor of {sizes} beyond its storage of {storage.count} numbers")
    return Tensor(storage, offset, sizes, steps)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter of no tensor")
    return tensor


def _ordered() -> dict[Any, Any]:
    """A dictionary, which keeps its order by itself; its pairs follow as steps."""
    return {}


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError("a size that is no whole number >= 0")
    return value


def _size(sizes: Any) -> tuple[int, ...]:
    if len(sizes) > _MAX_AXES:
        raise ValueError(f"a tensor of more than {_MAX_AXES} axes")
    return tuple(map(_whole, sizes))


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered,
    "torch Size": _size,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}

_PLAIN = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
)  # fmt: skip

_VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}


def _build(machine: _Machine, _: Any) -> None:
    """Attributes of a dictionary ("_metadata", versions of modules) are left out."""
    machine.pop()
    if not isinstance(machine.stack[-1], dict):
        raise TypeError("attributes of no dictionary")


def _global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    # Whose text may be larger than any memory, where tuples hold the same tuples again and again.
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError("a constructor whose name is no text")
    machine.name(f"{module} {name}")


def _remember(machine: _Machine, number: int | None) -> None:
    machine.memory[len(machine.memory) if number is None else number] = machine.stack[-1]


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": lambda machine, text: machine.name(text),
    "STACK_GLOBAL": _global,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": lambda machine, _: _remember(machine, None),
    "BINGET": lambda machine, number: machine.stack.append(machine.memory[number]),
    "LONG_BINGET": lambda machine, number: machine.stack.append(machine.memory[number]),
    "BINPERSID": _storage,
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": _build,
    "SETITEM": lambda machine, _: machine.items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.items(machine.marked()),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
}
