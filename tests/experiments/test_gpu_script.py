"""The script for a GPU: what fails leaves the rest alone, and a dry run goes through all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import ROOT

from experiments.benchmarks import gpu, gpu_here
from experiments.benchmarks.gpu import Section


def test_a_section_gives_what_it_printed_last() -> None:
    found = gpu.run(Section("one", "print('noise'); print('{\"rates\": [1, 2]}')"), 60)
    assert found["error"] is None
    assert found["rates"] == [1, 2]


def test_a_section_that_fails_says_why() -> None:
    found = gpu.run(Section("one", "raise ValueError('so')"), 60)
    assert found["error"].endswith("ValueError: so\n")


def test_a_section_that_takes_too_long_is_stopped_with_its_children() -> None:
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    found = gpu.run(Section("one", code, limit=0.3), 60)
    assert found["error"] == "stopped after its 0 seconds"


@pytest.mark.parametrize(
    ("section", "left", "error"),
    [
        (Section("one", "", needs="no_such_package"), 60, "no_such_package is not installed"),
        (Section("one", ""), 4, "left out: there was no time left"),
    ],
)
def test_a_section_that_cannot_be_is_left_out(section: Section, left: float, error: str) -> None:
    assert gpu.run(section, left) == {"seconds": 0.0, "error": error}


def test_sections_are_named_once_and_fit_into_the_time() -> None:
    for dry in (False, True):
        names = [section.name for section in gpu.sections(dry)]
        assert len(set(names)) == len(names)
        assert all(section.limit <= 90 for section in gpu.sections(dry))
    assert all((ROOT / test).is_file() for test in gpu_here.TESTS)


def test_the_table_of_speeds() -> None:
    found = {
        "machine": {"seconds": 1.0, "error": None},
        "train/lenet/tf32/cnnjax": {"rates": [1.0, 2000.0, 4000.0, 3000.0]},
        "train/lenet/tf32/torch": {"error": "torch is not installed"},
    }
    assert gpu.speeds(found).splitlines()[1].split() == ["lenet,", "tf32", "3,000", "-", "-"]


@pytest.mark.thorough
def test_a_dry_run_goes_through_all_sections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    gpu.main(gpu.Config(out=str(out), dry=True))
    found = json.loads(out.read_text(encoding="utf-8"))["sections"]
    missing = {name for name, one in found.items() if one["error"]}
    assert all("is not installed" in found[name]["error"] for name in missing)
    assert found["resume"]["same_bits"]
    assert found["tests"]["status"] == 0
    assert len(found["train/mnist_convnet/float32/cnnjax"]["rates"]) == 4
    assert "mnist_convnet, float32" in capsys.readouterr().out
