"""The machine under the framework: what is set up, and that nothing is set by importing."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.core import compiled, runtime
from cnnjax.nn import glorot_uniform

IMPORTING = """
import json, os, sys
import jax, numpy as np

def settings():
    return {name: repr(value) for name, value in jax.config.values.items()}

environment, before, state = dict(os.environ), settings(), np.random.get_state()[1].tolist()
import cnnjax
print(json.dumps({
    "environment": environment == dict(os.environ),
    "jax": {k: v for k, v in settings().items() if before.get(k, v) != v},
    "numpy": state == np.random.get_state()[1].tolist(),
    "heavy": [m for m in ("tensorflow_datasets", "sklearn", "matplotlib", "keras", "h5py")
              if m in sys.modules],
}))
"""

CONFIGURING = """
import json
import jax, jax.numpy as jnp
from cnnjax import configure_runtime

found = configure_runtime()
jax.jit(lambda x: x * 3 + 1)(jnp.ones(5)).block_until_ready()
print(json.dumps([found.allocator, found.compilation_cache]))
"""


PROGRAMS = """
import json, warnings
import jax, jax.numpy as jnp
from cnnjax import configure_runtime

def plus(x): return x + 2
def times(x): return x * 2

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = configure_runtime()
values = [float(jax.jit(f)(jnp.float32(5))) for f in (plus, times)]
said = [str(w.message) for w in caught]
print(json.dumps({"cache": found.compilation_cache, "values": values, "said": said}))
"""


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_changes_nothing():
    changed = run_python(IMPORTING)
    assert changed == {"environment": True, "jax": {}, "numpy": True, "heavy": []}


@pytest.mark.thorough
def test_configuring_sets_the_allocator_and_fills_the_compilation_cache(tmp_path):
    allocator, cache = run_python(
        CONFIGURING,
        CNNJAX_CACHE_DIR=str(tmp_path),
        CNNJAX_ALLOCATOR="1",
        CNNJAX_COMPILATION_CACHE="1",
    )
    assert Path(cache).parent == tmp_path / "xla"
    assert any(file.is_file() for file in Path(cache).rglob("*"))
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert allocator == "keeps memory"
    else:
        assert allocator == "unchanged"


def test_the_environment_opts_out(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("CNNJAX_ALLOCATOR", "0")
    monkeypatch.setenv("CNNJAX_COMPILATION_CACHE", "0")
    assert runtime.configure_runtime() == runtime.Runtime("unchanged", None)
    assert jax.config.jax_compilation_cache_dir == before


def test_arguments_opt_out():
    before = jax.config.jax_compilation_cache_dir
    found = runtime.configure_runtime(allocator=False, compilation_cache=False)
    assert found == runtime.Runtime("unchanged", None)
    assert jax.config.jax_compilation_cache_dir == before


def test_the_compilation_cache_may_lie_anywhere(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        found = runtime.configure_runtime(allocator=False, compilation_cache=tmp_path / "mine")
        assert found.compilation_cache == jax.config.jax_compilation_cache_dir
        assert Path(found.compilation_cache).parent == tmp_path / "mine"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_compilation_cache_that_cannot_be_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    before = jax.config.jax_compilation_cache_dir
    with pytest.warns(UserWarning, match="compiled programs are not kept.*CNNJAX_CACHE_DIR"):
        found = runtime.configure_runtime(allocator=False, compilation_cache=tmp_path / "file")
    assert found.compilation_cache is None
    assert jax.config.jax_compilation_cache_dir == before


def test_without_a_home_the_cache_lies_in_a_temporary_directory(monkeypatch):
    def expanduser(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CNNJAX_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    found = runtime.cache_directory()
    assert found == runtime.cache_directory()
    assert found.parent == Path(tempfile.gettempdir())
    assert found.name.startswith("cnnjax-")  # and goes on by chance: nobody can be there before
    assert found.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [
        (0o777, None, "anybody may write to it"),
        (0o1777, None, "anybody may write to it"),
        (0o702, None, "anybody may write to it"),
        (0o755, 12345, "it belongs to another user"),
        (0o777, 12345, "it belongs to another user"),
    ],
)
@pytest.mark.parametrize("below", ["", "xla"])
def test_a_cache_that_others_may_fill_is_not_used(
    monkeypatch, tmp_path, mode, owner, reason, below
):
    """Neither for data nor for programs, which JAX would run."""
    before = jax.config.jax_compilation_cache_dir
    root = tmp_path / "cache"
    folder = root / below
    folder.mkdir(parents=True)
    folder.chmod(mode)
    if owner is not None:
        if os.geteuid() != 0:
            pytest.skip("only root gives folders away")
        os.chown(folder, owner, owner)
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(root))
    monkeypatch.setenv("CNNJAX_COMPILATION_CACHE", "1")
    try:
        with pytest.warns(UserWarning, match=reason) as caught:
            found = runtime.configure_runtime(allocator=False)
        assert str(folder) in str(caught[0].message)
        if below:
            assert found.compilation_cache is None
        else:
            assert runtime.cache_directory().parent == Path(tempfile.gettempdir())
            assert not Path(found.compilation_cache).is_relative_to(root)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o775, 0o770])
def test_a_cache_of_ones_own_is_used(monkeypatch, tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    assert runtime.cache_directory() == tmp_path / "cache"


@pytest.mark.thorough
def test_a_new_cache_is_private(tmp_path):
    _, cache = run_python(CONFIGURING, CNNJAX_CACHE_DIR=str(tmp_path / "a" / "b"))
    for folder in (Path(cache), Path(cache).parent, tmp_path / "a" / "b"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *[("NPROC", v, "NPROC must be a whole number from 1 to 4096, got") for v in
          ("²", "0", "-1", "1e3", " 2", "2.0", "9" * 30, "٣", "many")],
        ("CNNJAX_ALLOCATOR", "no", "CNNJAX_ALLOCATOR must be 0 or 1, got 'no'"),
        ("CNNJAX_COMPILATION_CACHE", "/tmp/x", "CNNJAX_COMPILATION_CACHE must be 0 or 1, got"),
        ("CNNJAX_TRACEBACK", "2", "CNNJAX_TRACEBACK must be 0 or 1, got '2'"),
        ("CNNJAX_CACHEDIR", "x", "no variable CNNJAX_CACHEDIR: did you mean CNNJAX_CACHE_DIR?"),
        ("CNNJAX_TRACEBAK", "1", "did you mean CNNJAX_TRACEBACK?"),
        ("CNNJAX_CACHE_DIR", "~no.such.user/x", "~no.such.user/x begins with a user who has no"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_meant_is_an_error(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    if name == "CNNJAX_CACHE_DIR":
        monkeypatch.setenv("CNNJAX_COMPILATION_CACHE", "1")
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\ ", " ")):
        runtime.configure_runtime(allocator=False)


@pytest.mark.thorough
def test_swapped_programs_are_compiled_again(tmp_path):
    """JAX itself runs whatever lies under a program's name."""
    folder = Path(run_python(PROGRAMS, CNNJAX_CACHE_DIR=str(tmp_path))["cache"])
    entries = sorted(folder.glob("jit_*-cache"))
    first, second = (next(e for e in entries if name in e.name) for name in ("_plus", "_times"))
    shutil.move(first, tmp_path / "swapped")
    shutil.move(second, first)
    shutil.move(tmp_path / "swapped", second)
    found = run_python(PROGRAMS, CNNJAX_CACHE_DIR=str(tmp_path))
    assert found["values"] == [7.0, 10.0]
    assert found["said"] == [
        f"2 compiled programs in {folder} were others than those written: they were deleted and "
        "are compiled again"
    ]
    again = run_python(PROGRAMS, CNNJAX_CACHE_DIR=str(tmp_path))
    assert (again["values"], again["said"]) == ([7.0, 10.0], [])


@pytest.mark.parametrize("change", ["flip", "copy", "cut", "list"])
def test_programs_that_changed_are_deleted(tmp_path, change):
    (tmp_path / "a-cache").write_bytes(b"a" * 100)
    (tmp_path / "b-cache").write_bytes(b"b" * 100)
    assert compiled.keep_checked(tmp_path) == []
    assert compiled.keep_checked(tmp_path) == []
    if change == "flip":
        (tmp_path / "a-cache").write_bytes(b"a" * 99 + b"A")
    elif change == "copy":
        shutil.copy2(tmp_path / "b-cache", tmp_path / "a-cache")
    elif change == "cut":
        (tmp_path / "a-cache").write_bytes(b"a" * 99)
    else:  # the list is damaged: what is there is new
        (tmp_path / "programs.json").write_text('{"a-cache": 5}')
    wrong = [] if change == "list" else ["a-cache"]
    assert compiled.keep_checked(tmp_path) == wrong
    assert (tmp_path / "a-cache").exists() == (change == "list")


def test_the_cache_directory_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("CNNJAX_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert runtime.cache_directory() == Path("/home/someone/.cache/cnnjax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert runtime.cache_directory() == Path("/xdg/cnnjax")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", "~/own")
    assert runtime.cache_directory() == Path("/home/someone/own")


@pytest.mark.parametrize(("nproc", "expected"), [("3", 3), ("", None), ("0", None), ("many", None)])
def test_visible_cores_are_what_xla_uses(monkeypatch, nproc, expected):
    monkeypatch.setenv("NPROC", nproc)
    assert runtime.visible_cores() == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("backend", "deterministic", "set_any"),
    [("gpu", True, True), ("gpu", False, False), ("cpu", True, False), ("tpu", True, False)],
)
def test_only_a_deterministic_gpu_needs_compiler_options(
    monkeypatch, backend, deterministic, set_any
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    options = runtime.compiler_options(deterministic)
    assert (options is not None) == set_any
    if options:
        assert options["xla_gpu_deterministic_ops"] is True
        assert options["xla_gpu_autotune_level"] == 0


@pytest.mark.parametrize(
    ("backend", "most_off", "level"),
    [("cpu", False, 1), ("cpu", True, None), ("gpu", False, None), ("tpu", False, None)],
)
def test_a_program_that_runs_once_is_optimised_less_on_cpus(monkeypatch, backend, most_off, level):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", most_off)
    try:
        options = runtime.quick_compilation()
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    assert (options or {}).get("xla_backend_optimization_level") == level


@pytest.mark.thorough
def test_random_numbers_have_the_same_bits_at_every_level_of_optimisation():
    key = jax.random.key(3)
    lowered = jax.jit(lambda k: glorot_uniform(k, (3, 3, 8, 16))).lower(key)
    drawn = [
        lowered.compile(compiler_options={"xla_backend_optimization_level": level})(key)
        for level in (0, 1, 3)
    ]
    assert len({np.asarray(values).tobytes() for values in drawn}) == 1


def test_versions_are_those_installed():
    versions = runtime.versions()
    assert versions["python"] == platform.python_version()
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        assert versions[name] == metadata.version(name)


def test_a_missing_library_is_said_to_be_missing(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(runtime.metadata, "version", version)
    assert runtime.versions()["jax"] == "not installed"


def test_the_machine_in_words():
    machine = runtime.machine()
    assert machine["backend"] == jax.default_backend()
    assert machine["device_count"] == jax.device_count()
    assert machine["cores"] == runtime.visible_cores()
    assert machine["system"].startswith(platform.system())
    assert machine["processor"]
