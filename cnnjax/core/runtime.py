"""The machine under the framework: allocator, compilation cache, determinism, versions."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from cnnjax.core.allocator import keep_memory
from cnnjax.core.compiled import keep_checked
from cnnjax.core.coordination import join
from cnnjax.core.places import expanded
from cnnjax.core.storage import text_hash
from cnnjax.core.text import nearest, plain

_SWITCHES = ("CNNJAX_ALLOCATOR", "CNNJAX_COMPILATION_CACHE", "CNNJAX_TRACEBACK")
_VARIABLES = (*_SWITCHES, "CNNJAX_CACHE_DIR")

# XLA starts so many threads.
_MOST_CORES = 4096


@dataclass(frozen=True)
class Runtime:
    """What `configure_runtime` set."""

    allocator: str
    compilation_cache: str | None


def configure_runtime(
    *,
    allocator: bool = True,
    compilation_cache: bool | str | Path = True,
    distributed: bool = False,
) -> Runtime:
    """Set up this process for training; call it once, before the first computation.

    Importing cnnjax changes nothing: the experiments and the command line call this, and a
    notebook may. CNNJAX_ALLOCATOR=0 and CNNJAX_COMPILATION_CACHE=0 opt out from outside.

    Compiled programs are code, and JAX runs what lies under their name: the cache belongs to this
    user alone. One that somebody else owns or may write to is not used, which is said.

    Args:
        allocator: on glibc, keep freed memory in the process (mallopt: one arena, no mmap, no
            trimming). XLA's large temporaries are otherwise mapped and unmapped at every step,
            which costs up to half of the time of a step on the CPU; the price is that memory once
            used stays with the process. The kernel is asked for pages of 2 MiB there, which it
            gives where transparent huge pages are set to "madvise" or "always", unless a limit
            (ulimit -v, strict overcommit) counts what is not used yet: 2 GB of addresses are kept.
        compilation_cache: keep compiled programs on disk, so that a second run starts in a second;
            True for `cache_directory() / "xla"`, or a directory.
        distributed: join the other processes that compute together with this one, whatever number
            they are: those that JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
            and JAX_PROCESS_ID name, or Slurm, Open MPI, Kubernetes or a TPU pod. Where they do not
            meet within two minutes the process ends and says so. `fit` then trains over the devices
            of all, and what it keeps process 0 writes. docs/many_processes.md tells more.

    Returns:
        What was set.

    Raises:
        ValueError: for a variable of the environment that cannot be meant, or with `distributed`
            where no other process is named, or something was computed already.
    """
    _check_environment()
    if distributed:
        join()
    code_version()  # now, before somebody edits what is still to be imported
    allocator = allocator and os.environ.get("CNNJAX_ALLOCATOR", "1") != "0"
    if os.environ.get("CNNJAX_COMPILATION_CACHE", "1") == "0":
        compilation_cache = False
    cache = None
    if compilation_cache:
        if compilation_cache is True:
            cache = _made(cache_directory(), "xla", _machine_key())
        else:
            cache = _made(expanded(compilation_cache), _machine_key())
    if cache:
        _check_programs(cache)
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Runtime(
        allocator="keeps memory" if allocator and keep_memory() else "unchanged",
        compilation_cache=str(cache) if cache else None,
    )


def compiler_options(
    deterministic: bool, *, recomputed: bool = False
) -> dict[str, bool | int | str] | None:
    """Options for `jax.jit` of a training.

    Args:
        deterministic: on a GPU, deterministic operations chosen without timing. CPUs and TPUs need
            nothing: the same program gives the same bits there.
        recomputed: whether `jax.checkpoint` is to save memory. XLA:CPU would otherwise find the
            same operation twice, compute it once and keep it.
    """
    backend = jax.default_backend()
    if deterministic and backend == "gpu":
        return {"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": 0}
    if recomputed and backend == "cpu":
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return None


def quick_compilation() -> dict[str, int] | None:
    """Options for `jax.jit` of a program that runs once: on a CPU, less optimisation.

    Of the optimised code of random numbers LLVM takes most of the time, four times that of its
    first level, which computes the same bits as fast. Where JAX_DISABLE_MOST_OPTIMIZATIONS asks for
    less still, that holds.
    """
    if jax.default_backend() != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return None
    return {"xla_backend_optimization_level": 1}


def cache_directory() -> Path:
    """Where decoded data and compiled programs are kept.

    CNNJAX_CACHE_DIR, else XDG_CACHE_HOME/cnnjax, else ~/.cache/cnnjax. Where there is no home, or
    that folder belongs to somebody else or anybody may write to it, a temporary directory of this
    process, which goes away with it.
    """
    if own := os.environ.get("CNNJAX_CACHE_DIR"):
        root = expanded(own)
    elif base := os.environ.get("XDG_CACHE_HOME"):
        root = expanded(base) / "cnnjax"
    else:
        try:
            root = Path("~/.cache").expanduser() / "cnnjax"
        except RuntimeError:  # no home directory, as in some containers
            return _cache_of_this_process()
    if reason := distrusted(root):
        _warn_of_cache(str(root), reason)
        return _cache_of_this_process()
    return root


def distrusted(folder: Path) -> str | None:
    """Why what lies in a folder may be somebody else's doing; None where it is our own, or absent.

    Args:
        folder: in which programs or data are kept.

    >>> distrusted(Path("/nowhere"))
    """
    if not hasattr(os, "geteuid"):  # Windows: folders of a user are private there
        return None
    try:
        facts = [os.stat(folder), os.lstat(folder)]
    except (OSError, ValueError):
        return None
    if any(fact.st_uid not in (0, os.geteuid()) for fact in facts):
        return "it belongs to another user"
    return "anybody may write to it" if facts[0].st_mode & stat.S_IWOTH else None


@functools.cache
def _warn_of_cache(root: str, reason: str) -> None:
    warnings.warn(
        f"the cache {plain(root)} is not used, as {reason}: mend that, or set CNNJAX_CACHE_DIR",
        stacklevel=4,
    )


@functools.cache
def _cache_of_this_process() -> Path:
    folder = tempfile.mkdtemp(prefix="cnnjax-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def visible_cores() -> int:
    """Number of CPU threads that XLA uses: NPROC if set, else the cores of this process.

    Part of what a result's bits depend on.
    """
    if (nproc := _number_of_cores(os.environ.get("NPROC", ""))) is not None:
        return nproc
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    names = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, str | int]:
    """The machine in words: system, processor, cores that XLA uses, backend, device."""
    device = jax.devices()[0]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "cores": visible_cores(),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


@functools.cache
def code_version() -> dict[str, Any]:
    """Which code runs: as it was when first asked, which `configure_runtime` does.

    Returns:
        "sources", a hash of all files of the package; in a git checkout also its "commit", and
        "modified", whether package or experiments differ from it.
    """
    package = Path(__file__).resolve().parents[1]
    files = sorted(package.rglob("*.py"))
    texts = [f"{f.relative_to(package)}\n{f.read_text(encoding='utf-8')}" for f in files]
    return {"sources": text_hash("\n".join(texts)), **_checkout(package.parent)}


def _checkout(root: Path) -> dict[str, Any]:
    """Commit and state of the git checkout in a folder; {} if it is none."""
    commands = (
        ["rev-parse", "--show-toplevel"],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--", "cnnjax", "experiments"],
    )
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=10,
            )
            for arguments in commands
        ]
    except (OSError, subprocess.TimeoutExpired):
        return {}
    top, commit, status = (answer.stdout.strip() for answer in answers)
    # Installed below another project's checkout, that project's commit would mean nothing.
    if any(answer.returncode for answer in answers) or Path(top) != root:
        return {}
    return {"commit": commit, "modified": bool(status)}


def _check_environment() -> None:
    """Refuse variables that cannot be meant: what is ignored would go unnoticed."""
    for name in _SWITCHES:
        value = os.environ.get(name, "")
        if value not in ("", "0", "1"):
            raise ValueError(f"{name} must be 0 or 1, got {value!r}")
    for name in os.environ:
        near = nearest(name, _VARIABLES, most=1, cutoff=0.85)
        if name.startswith("CNNJAX_") and name not in _VARIABLES and near:
            raise ValueError(f"there is no variable {name}: did you mean {near[0]}?")
    cores = os.environ.get("NPROC", "")
    if cores and _number_of_cores(cores) is None:
        raise ValueError(f"NPROC must be a whole number from 1 to {_MOST_CORES}, got {cores!r}")


def _number_of_cores(text: str) -> int | None:
    """What NPROC says; None where it says nothing."""
    if not re.fullmatch("[0-9]{1,9}", text):
        return None
    return int(text) if 1 <= int(text) <= _MOST_CORES else None


def _made(root: Path, *below: str) -> Path | None:
    """A folder, private where it is new, or None with a warning where it cannot be."""
    folder, reason = root, None
    try:
        for part in ("", *below):
            folder = folder / part
            folder.mkdir(0o700, parents=True, exist_ok=True)
            reason = reason or distrusted(folder)
    except OSError as error:
        reason = str(error)
    if reason is None:
        return folder
    warnings.warn(
        f"compiled programs are not kept in {plain(folder)}: {plain(reason)}; set CNNJAX_CACHE_DIR "
        "to a writable folder of your own",
        stacklevel=3,
    )
    return None


def _check_programs(folder: Path) -> None:
    try:
        wrong = keep_checked(folder)
    except OSError:  # a cache that is read only
        return
    if wrong:
        warnings.warn(
            f"{len(wrong)} compiled programs in {plain(folder)} were others than those written: "
            "they were deleted and are compiled again",
            stacklevel=3,
        )


def _machine_key() -> str:
    """Compiled CPU code fits one processor and one jaxlib: each gets a cache of its own."""
    parts = [metadata.version("jaxlib"), platform.machine()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            parts += sorted({line for line in file if line.startswith(("flags", "model name"))})
    except OSError:
        parts.append(platform.processor())
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
