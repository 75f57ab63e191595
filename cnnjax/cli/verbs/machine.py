"""The verb about what is on this machine: doctor."""

from __future__ import annotations

from dataclasses import dataclass

from cnnjax.cli.options import DataDirectory
from cnnjax.cli.verb import MACHINE, Verb
from cnnjax.core.table import table


@dataclass(frozen=True)
class Doctor(Verb, task=MACHINE):
    """What is here, what is missing, how to get it."""

    data_dir: DataDirectory = None

    def run(self) -> None:
        """Print it."""
        from cnnjax import data
        from cnnjax.core.runtime import cache_directory, configure_runtime, machine, versions

        runtime = configure_runtime()
        cache = cache_directory()
        files = [f for f in cache.rglob("*") if f.is_file()] if cache.is_dir() else []
        size = sum(file.stat().st_size for file in files) / 2**20
        root = data.tfds_directory(self.data_dir)
        here = data.prepared_names(root)
        facts = {
            **versions(),
            **machine(),
            "allocator": runtime.allocator,
            "compiled programs": runtime.compilation_cache or "not kept",
            "cache": f"{cache} ({size:,.0f} MiB; may be deleted at any time)",
            "data directory": f"{root}{'' if root.is_dir() else ' (does not exist)'}",
            "data sets": ", ".join([*data.EMBEDDED, data.TEXTS[0], *here]),
        }
        if absent := [name for name in data.RECIPES if name not in here]:
            facts["not here"] = f"{', '.join(absent)}. {data.how_to_get('NAME')}"
        print(table([(name, value) for name, value in facts.items() if value != ""], "<"))
