"""Raw files of well-known data sets, small, in the formats in which they are published."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as a compressed idx file."""
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes(), 1, mtime=0)


def tar(members: Mapping[str, bytes]) -> bytes:
    """A .tar.gz of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def archive(members: Mapping[str, bytes]) -> bytes:
    """A .zip of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def image(pixels: np.ndarray, format: str = "JPEG") -> bytes:
    """An encoded image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def mnist(train: int = 7, test: int = 4, seed: int = 0) -> dict[str, bytes]:
    """The four files of MNIST, with random images."""
    rng = np.random.default_rng(seed)
    files = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


def cifar_images(count: int, seed: int) -> np.ndarray:
    """Random images of CIFAR's size."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def cifar_records(labels: np.ndarray, image_list: np.ndarray) -> bytes:
    """Labels [N, L] and images in CIFAR's binary format."""
    planes = image_list.transpose(0, 3, 1, 2).reshape(len(image_list), -1)
    return np.concatenate([labels.astype(np.uint8), planes], axis=1).tobytes()


def cifar10() -> dict[str, bytes]:
    """Five files of two images and one of three; those of training in the wrong order."""
    members = {
        f"cifar-10-batches-bin/data_batch_{i}.bin": cifar_records(
            np.array([[2 * i - 2], [2 * i - 1]]), cifar_images(2, i)
        )
        for i in (3, 5, 1, 2, 4)
    }
    members["cifar-10-batches-bin/test_batch.bin"] = cifar_records(
        np.array([[0], [9], [4]]), cifar_images(3, 6)
    )
    classes = "airplane automobile bird cat deer dog frog horse ship truck"
    members["cifar-10-batches-bin/batches.meta.txt"] = classes.replace(" ", "\n").encode() + b"\n\n"
    return {"cifar-10-binary.tar.gz": tar(members)}


def cifar100() -> dict[str, bytes]:
    """Four images to train on, two to test; a coarse and a fine label each."""
    return {
        "cifar-100-binary.tar.gz": tar(
            {
                "cifar-100-binary/coarse_label_names.txt": names("coarse", 20),
                "cifar-100-binary/fine_label_names.txt": names("fine", 100),
                "cifar-100-binary/test.bin": cifar_records(
                    np.array([[1, 11], [19, 99]]), cifar_images(2, 8)
                ),
                "cifar-100-binary/train.bin": cifar_records(
                    np.array([[0, 5], [3, 33], [2, 50], [19, 0]]), cifar_images(4, 7)
                ),
            }
        )
    }


def names(kind: str, count: int) -> bytes:
    """Names of classes, as CIFAR lists them."""
    return "".join(f"{kind}_{i}\n" for i in range(count)).encode()


REVIEWS = {
    "aclImdb/test/neg/0_2.txt": "a bad film",
    "aclImdb/test/pos/0_10.txt": "  what a good film! <br />caf\u00e9 ",
    "aclImdb/train/neg/0_3.txt": "dull",
    "aclImdb/train/pos/0_9.txt": "splendid",
    "aclImdb/train/pos/1_7.txt": "fine",
    "aclImdb/train/unsup/0_0.txt": "who knows",
}


def imdb_reviews() -> dict[str, bytes]:
    """Six reviews, and files that are none."""
    members = {name: text.encode() for name, text in REVIEWS.items()}
    others = {"aclImdb/README": b"about", "aclImdb/train/labeledBow.feat": b"9 0:9"}
    return {"aclImdb_v1.tar.gz": tar({**others, **members})}


def pets() -> dict[str, np.ndarray]:
    """The good photos of `cats_vs_dogs`: of various sizes, one of them grey."""
    rng = np.random.default_rng(9)
    sizes = {
        "PetImages/Cat/0.jpg": (20, 30, 3),
        "PetImages/Cat/1.jpg": (25, 18),
        "PetImages/Dog/0.jpg": (16, 16, 3),
        "PetImages/Dog/10.jpg": (31, 17, 3),
    }
    return {n: rng.integers(0, 256, size, dtype=np.uint8) for n, size in sizes.items()}


def cats_vs_dogs() -> dict[str, bytes]:
    """Four good photos; a PNG, an empty, a cut and a foreign file under the names of photos."""
    members = {name: image(pixels) for name, pixels in pets().items()}
    good = members["PetImages/Cat/0.jpg"]
    members["PetImages/Cat/2.jpg"] = image(pets()["PetImages/Dog/0.jpg"], "PNG")
    members["PetImages/Cat/666.jpg"] = b""
    members["PetImages/Dog/11.jpg"] = good[: len(good) // 2]
    members["PetImages/Dog/11702.jpg"] = b"Exif, but no JFIF"
    members["PetImages/Dog/Thumbs.db"] = b"\xd0\xcf"
    members["readme[1].txt"] = b"about"
    return {"kagglecatsanddogs_5340.zip": archive(members)}


def numbered_photos(layout: str) -> dict[str, bytes]:
    """Ten numbers of each class in one of the two layouts, the last first; some of no use.

    Of the cats 1 is cut off, 2 a GIF; of the dogs 0 is empty, 3 and 4 are missing.
    """
    rng = np.random.default_rng(3)
    members = {}
    for label in ("dog", "cat"):
        for number in reversed(range(10)):
            pixels = rng.integers(0, 256, (8 + number, 12, 3), dtype=np.uint8)
            content = image(pixels, "GIF" if (label, number) == ("cat", 2) else "JPEG")
            content = content[:200] if (label, number) == ("cat", 1) else content
            content = b"" if (label, number) == ("dog", 0) else content
            if label == "cat" or number not in (3, 4):
                members[photo_name(layout, label, number)] = content
    members["readme[1].txt"] = b"about"
    return members


def photo_name(layout: str, label: str, number: int) -> str:
    """What a photo is called in an archive of Kaggle's or of Microsoft's."""
    if layout == "kaggle":
        return f"train/{label}.{number}.jpg"
    return f"PetImages/{label.title()}/{number}.jpg"
