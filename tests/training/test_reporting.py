"""`fit` leaves a report, which changes nothing of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnjax as cj
from cnnjax.runs import RunError

CONFIG = cj.TrainingConfig(epochs=1, batch_size=512)


def fit(**arguments: object) -> cj.Run:
    model = cj.create_model("mlp", units=(4,))
    return cj.fit(model, cj.data.load("digits"), CONFIG, **arguments)


def test_fit_writes_a_report_which_changes_no_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(directory=tmp_path / "run", report=True)
    page = tmp_path / "run" / "report.html"
    assert page.is_file()
    assert f"report: {page}" in capsys.readouterr().out
    bare = fit(directory=tmp_path / "bare", report=False, verbose=False)
    assert not (tmp_path / "bare" / "report.html").exists()
    assert bare.parameter_hash == run.parameter_hash
    assert cj.report(bare) == tmp_path / "bare" / "report.html"
    assert cj.report(tmp_path / "run", smoothing=0.5) == page


def test_what_is_no_run_directory_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kept nothing on disk.*give fit one"):
        cj.report(fit(verbose=False))
    with pytest.raises(RunError):
        cj.report(tmp_path)
    with pytest.raises(ValueError, match="report must be True or False, got 'yes'"):
        fit(report="yes")


def test_a_report_that_cannot_be_written_leaves_the_run(tmp_path: Path) -> None:
    page = tmp_path / "run" / "report.html"
    with pytest.warns(UserWarning, match="no report was written: "):
        run = fit(
            directory=page.parent, report=True, verbose=False, callbacks=[lambda _: page.mkdir()]
        )
    assert run.metrics["test_accuracy"] >= 0
