"""Files that are often given for weight files, called by their names."""

from __future__ import annotations

import re
from pathlib import Path

FORMATS = ".weights.h5, .h5, .keras, .pth, .npz or .safetensors"

# Of the table that holds a TensorFlow checkpoint's names, at its end.
_TABLE_END = bytes.fromhex("57fb808b247547db")

# Number of PyTorch's format before 1.6, as it is pickled.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_TORCH_ADVICE = (
    "load it in PyTorch with torch.load(..., weights_only=True) and save its state dict again, "
    "torch.save(state_dict, 'w.pth')"
)


def foreign_file(path: Path, start: bytes) -> str | None:
    """What a file of another kind is, and what to do; None where it is not known.

    Args:
        path: of the file.
        start: its first bytes, 512 or all.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    name = path.name.lower()
    if not start:
        return "is empty: the download or the copy was cut off"
    if start.startswith(b"version https://git-lfs"):
        return (
            "is the pointer of a Git LFS file, not the file itself: `git lfs pull` in its "
            "repository fetches that"
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "is a web page, probably an error or a login in place of the download"
    if start.startswith(_OLD_TORCH):
        return f"is a PyTorch file of the format before 1.6, a bare pickle: {_TORCH_ADVICE}"
    if name.endswith((".pth", ".pth.tar")):
        return f"is no PyTorch file of the zip format since 1.6: {_TORCH_ADVICE}"
    if _is_pickle(start):
        return (
            "is a pickle, which could run any code and is never loaded: save the weights as "
            f"{FORMATS}"
        )
    if re.search(r"\.data-[0-9]{5}-of-[0-9]{5}$", name) or _is_table(path):
        return f"is a part of a TensorFlow checkpoint: {_TENSORFLOW_ADVICE}"
    if name.endswith((".pb", ".meta", ".ckpt", ".index")):
        return f"is a TensorFlow graph or checkpoint: {_TENSORFLOW_ADVICE}"
    if name.endswith(".onnx") or re.match(rb"\x08[\x01-\x14]\x12.(pytorch|tf2onnx|onnx)", start):
        return f"is an ONNX model, which holds a graph of its own: save its weights as {FORMATS}"
    for magic, at, kind in _MAGICS:
        if start[at : at + len(magic)] == magic:
            return f"is {kind}: expected {FORMATS}"
    if text.startswith((b"{", b"[")):
        return f"is JSON text, a configuration perhaps or a server's answer: expected {FORMATS}"
    return None


_TENSORFLOW_ADVICE = (
    "load it in TensorFlow with the model's code and save that with model.save_weights('x.h5')"
)

_MAGICS = (
    (b"\x93NUMPY", 0, "a single array (.npy), without a layer's name"),
    (b"\x1f\x8b", 0, "compressed with gzip, to be unpacked first"),
    (b"BZh", 0, "compressed with bzip2, to be unpacked first"),
    (b"\xfd7zXZ\x00", 0, "compressed with xz, to be unpacked first"),
    (b"Rar!", 0, "a RAR archive, to be unpacked first"),
    (b"7z\xbc\xaf", 0, "a 7z archive, to be unpacked first"),
    (b"ustar", 257, "a tar archive, to be unpacked first"),
    (b"GGUF", 0, "a GGUF file of a language model"),
    (b"TFL3", 4, "a TensorFlow Lite model"),
    (b"\x89PNG", 0, "an image"),
    (b"\xff\xd8\xff", 0, "an image"),
    (b"%PDF", 0, "a PDF document"),
)


def foreign_archive(names: list[str]) -> str | None:
    """What a zip archive of other members is; None where it is not known."""
    if any(name.endswith("constants.pkl") for name in names):
        return (
            "is a TorchScript archive, a net as code: load it with torch.jit.load and save "
            "torch.save(net.state_dict(), 'w.pth')"
        )
    inside = [name for name in names if name.lower().endswith((".h5", ".keras", ".safetensors"))]
    if inside:
        return f"is an archive with {inside[0]!r} in it, to be unpacked first"
    return None


def foreign_directory(path: Path) -> str:
    """What a directory is that was given for a file."""
    names = {entry.name for entry in list(path.iterdir())[:1000]}
    if "saved_model.pb" in names:
        return f"is a directory, a TensorFlow SavedModel: {_TENSORFLOW_ADVICE}"
    if "model.json" in names:
        return "is a directory, which cj.load reads"
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        return f"is a directory, with a TensorFlow checkpoint: {_TENSORFLOW_ADVICE}"
    return f"is a directory: expected {FORMATS}"


def _is_pickle(start: bytes) -> bool:
    binary = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return binary or bool(re.match(rb"(\((dp|lp)[0-9]+\r?\n|c[a-z_.]+\r?\n[A-Za-z_]+\r?\n)", start))


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_TABLE_END)))
        return file.read() == _TABLE_END
