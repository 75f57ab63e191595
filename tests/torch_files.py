"""PyTorch's zip files byte by byte, as torch.save writes them, without PyTorch."""

import struct
import zipfile

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "u2": "BFloat16", "i8": "Long"}


def text(value):
    """A text in a pickle."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def number(value):
    """A whole number in a pickle."""
    return b"J" + struct.pack("<i", value)


def numbers(values):
    """A tuple of whole numbers in a pickle."""
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module, function):
    """A constructor in a pickle."""
    return f"c{module}\n{function}\n".encode()


def tensor(key, kind, count, offset, shape, strides):
    """A tensor over a storage."""
    storage = (text("storage"), name("torch", f"{kind}Storage"), text(key), text("cpu"))
    reference = b"(" + b"".join(storage) + number(count) + b"tQ"
    hooks = name("collections", "OrderedDict") + b")R"
    view = reference + number(offset) + numbers(shape) + numbers(strides)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + view + b"\x89" + hooks + b"tR"


def dictionary(values):
    """An OrderedDict of values that are pickled already."""
    items = b"".join(text(key) + value for key, value in values.items())
    return name("collections", "OrderedDict") + b")R(" + items + b"u"


def write(path, values, storages, *, order="little", folder="net", **members):
    """A file of pickled values by name and the storages that they are over."""
    with zipfile.ZipFile(path, "w") as file:
        content = values if isinstance(values, bytes) else dictionary(values)
        file.writestr(f"{folder}/data.pkl", b"\x80\x02" + content + b".")
        file.writestr(f"{folder}/byteorder", order)
        for key, array in storages.items():
            file.writestr(f"{folder}/data/{key}", np.ascontiguousarray(array).tobytes())
        file.writestr(f"{folder}/version", "3\n")
        for member, more in members.items():
            file.writestr(f"{folder}/{member}", more)
    return path


def save(path, arrays, wrap=lambda values: values, **options):
    """A file of arrays by name, each with a storage of its own."""
    values, storages = {}, {}
    for key, (where, array) in enumerate(arrays.items()):
        kind = KINDS[array.dtype.str[1:]]
        steps = [stride // array.itemsize for stride in array.strides]
        values[where] = tensor(str(key), kind, array.size, 0, array.shape, steps)
        storages[str(key)] = array
    return write(path, wrap(values), storages, **options)
