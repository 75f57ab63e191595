"""The verb about what is on this machine: doctor."""

from __future__ import annotations

import argparse
from typing import Any

from cnnjax.cli.options import place
from cnnjax.cli.running import show


def add(verbs: Any) -> None:
    """Add the verbs of this file to the command's."""
    verb = verbs.add_parser("doctor", help="what is here, what is missing, how to get it")
    verb.add_argument("--data-dir", type=place, help="a TensorFlow Datasets directory to look in")
    verb.set_defaults(verb=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    from cnnjax import data
    from cnnjax.core.runtime import cache_directory, configure_runtime, machine, versions

    runtime = configure_runtime()
    for name, version in versions().items():
        show(f"{name:18} {version}")
    for name, value in machine().items():
        show(f"{name:18} {value}")
    show(f"{'allocator':18} {runtime.allocator}")
    show(f"{'compiled programs':18} {runtime.compilation_cache or 'not kept'}")
    cache = cache_directory()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    show(f"{'cache':18} {cache} ({size / 2**20:,.0f} MiB; may be deleted at any time)")
    root = data.tfds_directory(options.data_dir)
    found = data.prepared_names(root)
    show(f"{'data directory':18} {root}{'' if root.is_dir() else ' (does not exist)'}")
    show(f"{'data sets':18} {', '.join([*data.EMBEDDED, data.TEXTS[0], *found])}")
    absent = [name for name in data.RECIPES if name not in found]
    if absent:
        show(f"{'not here':18} {', '.join(absent)}. {data.how_to_get('NAME')}")
