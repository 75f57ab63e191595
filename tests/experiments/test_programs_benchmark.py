"""The programs that a TPU's compiler makes, without a TPU; skipped where libtpu is not there."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from experiments.benchmarks import programs
from experiments.benchmarks.programs import CASES, Compiled, compiled, stack, step, tpu_devices


@pytest.fixture(scope="module")
def devices() -> list[Any]:
    found = tpu_devices()
    if found is None:
        pytest.skip("libtpu is not installed, and TPU_LIBRARY_PATH is not set")
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 4])
def test_a_batch_normalisation_sums_over_devices_twice(devices: list[Any], count: int) -> None:
    norms = 2
    traced = step(partial(stack, norms), 16 * count, precision="bfloat16")(devices[:count])
    assert compiled(traced).all_reduces == (0 if count == 1 else 2 * norms + 1)


@pytest.mark.thorough
def test_a_scan_over_cifar_keeps_no_copy_of_the_data(devices: list[Any]) -> None:
    (case,) = CASES["layout"].values()
    assert compiled(case.traced(devices[:1])).temporary < 50 * 2**20


def test_without_libtpu_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="libtpu is not installed: pip install libtpu"):
        programs.main(programs.Config())


def test_a_row_is_compiled_without_the_mend_and_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(programs, "tpu_devices", lambda: [0, 1, 2, 3])
    seen = []

    def made(traced: Any) -> Compiled:
        seen.append((traced, programs.norm._moments_in_one_pass is programs.norm._moments))
        return Compiled(2e9, 3 * 2**20, len(seen), 1.5)

    monkeypatch.setattr(programs, "compiled", made)
    case = programs.Case(len, 4, programs.two_passes)
    monkeypatch.setattr(programs, "CASES", {"norm": {"a net": case}})
    programs.main(programs.Config())
    assert seen == [(4, True), (4, False)]
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        *("a", "net", "2.00", "2.00", "3", "3", "1", "2", "1.5", "1.5")
    ]
