"""Claims on two arms: judged by paired values as SciPy judges them, kept in a sealed file."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cnnjax.recipes import Claim, Measured, write_claims
from cnnjax.runs import RunError
from cnnjax.runs.results import evaluate, read_claims
from cnnjax.runs.results.paired import interval, student_t

BETTER = Claim("Wide nets are better", "wide", "narrow", "test_accuracy")
ALIKE = Claim("Both are alike", "wide", "narrow", "test_accuracy", within=0.01)
MEASURED = Measured(
    "Max keeps more", "max", [0.5, 0.25], "average", [0.25, 0.125], "photos", "share of edges"
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 30, 999, 12345])
@pytest.mark.parametrize("inside", [0.5, 0.95, 0.999])
def test_quantiles_are_those_of_scipy(degrees: int, inside: float) -> None:
    expected = stats.t.ppf((1 + inside) / 2, degrees)
    assert student_t(inside, degrees) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("pairs", [2, 3, 5, 10, 1000])
def test_the_interval_is_that_of_the_paired_test_of_scipy(pairs: int) -> None:
    random = np.random.default_rng(pairs)
    first, second = random.normal(0.8, 0.02, pairs), random.normal(0.78, 0.03, pairs)
    verdict = evaluate(BETTER, first.tolist(), second.tolist())
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert verdict.difference == pytest.approx(np.mean(first - second))
    assert verdict.pairs == pairs


def test_the_interval_of_equal_differences_is_a_point() -> None:
    assert interval([0.1] * 7) == (0.1, 0.1)
    verdict = evaluate(BETTER, [0.75, 1.0], [0.5, 0.75])
    assert (verdict.low, verdict.difference, verdict.high) == (0.25, 0.25, 0.25)
    assert verdict.word == "holds"
    assert evaluate(BETTER, [0.5, 0.5], [0.5, 0.5]).word == "does not hold"


@pytest.mark.parametrize(
    ("by", "word"),
    [(0.0, "holds"), (0.099, "not decided"), (0.1, "not decided"), (0.2, "does not hold")],
)
def test_a_claim_holds_if_the_whole_interval_lies_above(by: float, word: str) -> None:
    claim = Claim("More", "a", "b", "accuracy", by=by)
    verdict = evaluate(claim, [0.6, 0.61, 0.59], [0.5, 0.5, 0.5])  # 0.1 ± 0.025
    assert verdict.word == word
    assert verdict.low < 0.1 < verdict.high


def test_at_the_bound_a_claim_does_not_hold_and_alike_does() -> None:
    assert evaluate(Claim("More", "a", "b", "loss", by=0.25), [1, 2], [0.75, 1.75]).word == (
        "does not hold"
    )
    alike = Claim("Alike", "a", "b", "loss", within=0.25)
    assert evaluate(alike, [1, 2], [0.75, 1.75]).word == "holds"


@pytest.mark.parametrize(
    ("second", "word"),
    [
        ([0.5, 0.501, 0.499], "holds"),
        ([0.5, 0.52, 0.48], "not decided"),
        ([0.51, 0.511, 0.509], "not decided"),
        ([0.55, 0.551, 0.549], "does not hold"),
        ([0.45, 0.451, 0.449], "does not hold"),
    ],
)
def test_alike_holds_if_the_interval_lies_inside(second: list[float], word: str) -> None:
    assert evaluate(ALIKE, [0.5, 0.5, 0.5], second).word == word


def test_fewer_than_two_pairs_decide_nothing() -> None:
    one, none = evaluate(BETTER, [0.9], [0.5]), evaluate(BETTER, [], [])
    assert one.word == none.word == "not decided"
    assert one.difference == pytest.approx(0.4)
    assert math.isnan(none.difference)
    assert one.reason == "1 pair, and an interval takes two"
    assert none.reason == "no pairs, and an interval takes two"
    assert (one.low, one.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0], [1.0, 2.0], "first has 1 values and second 2: pairs have two"),
        ([1.0, math.nan], [1.0, 2.0], "first must hold finite numbers, got nan"),
        ([1.0, 2.0], [1.0, math.inf], "second must hold finite numbers, got inf"),
        ([1.0, 2.0], [1.0, "2"], "second must hold finite numbers, got '2'"),
    ],
)
def test_values_that_are_no_pairs_are_refused(first: list, second: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        evaluate(BETTER, first, second)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Measured("More", "a", first, "b", second, "seeds", "loss")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " "}, "text must be a text of one line, got ' '"),
        ({"text": "a\nb"}, "text must be a text of one line, got 'a\\nb'"),
        ({"metric": None}, "metric must be a text of one line, got None"),
        ({"second": "wide"}, "first and second must be two experiments, got 'wide' twice"),
        ({"by": math.nan}, "by must be a finite number, got nan"),
        ({"within": 0}, "within must be a number above 0 or None, got 0"),
        ({"within": "x"}, "within must be a number above 0 or None, got 'x'"),
        (
            {"within": 0.1, "by": 0.2},
            "by=0.2 must be 0 where within is given, as it is not used then",
        ),
    ],
)
def test_strange_claims_are_refused(changes: dict, message: str) -> None:
    arguments = {"text": "More", "first": "wide", "second": "narrow", "metric": "loss", **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Claim(**arguments)


def test_arrays_are_measured_values_too() -> None:
    first, second = np.float32([0.5, 0.25]), list(jnp.array([0.25, 0.125]))
    measured = Measured("More", "max", first, "average", second, "photos", "share of edges")
    assert measured.first == (0.5, 0.25)
    assert measured.second == (0.25, 0.125)
    with pytest.raises(ValueError, match=r"^first and second must hold at least one pair"):
        Measured("More", "max", [], "average", [], "photos", "share of edges")


def test_claims_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = write_claims(tmp_path / "study", [BETTER, ALIKE, MEASURED])
    assert file == tmp_path / "study" / "claims.json"
    claims, facts = read_claims(file)
    assert claims == [BETTER, ALIKE, MEASURED]
    assert facts["command"].startswith("python ")
    assert facts["machine"]["backend"] == "cpu"
    assert facts["versions"]["jax"]
    assert "sources" in facts["code"]
    write_claims(tmp_path / "study", [BETTER])
    assert read_claims(file)[0] == [BETTER]
    assert [path.name for path in file.parent.iterdir()] == ["claims.json"]


def test_a_changed_file_of_claims_is_refused(tmp_path: Path) -> None:
    file = write_claims(tmp_path, [BETTER])
    file.write_text(file.read_text().replace("wide", "deep"))
    with pytest.raises(RunError, match=r"claims\.json was changed since"):
        read_claims(file)
    with pytest.raises(RunError, match=r"claims\.json does not exist$"):
        read_claims(tmp_path / "other" / "claims.json")
    file.write_text(json.dumps({"claims": [{"text": "More"}]}))
    with pytest.raises(RunError, match=r"is damaged, or of another version"):
        read_claims(file)


@pytest.mark.parametrize(
    "change", [{"command": 'python "a'}, {"command": 5}, {"time": 5}, {"claims": [{}]}]
)
def test_facts_that_cannot_be_understood_are_refused(tmp_path: Path, change: dict) -> None:
    file = write_claims(tmp_path, [MEASURED])
    content = json.loads(file.read_text())
    del content["seal"]
    file.write_text(json.dumps({**content, **change}))
    with pytest.raises(RunError, match=r"claims\.json is"):
        read_claims(file)


def test_a_call_with_other_options_leaves_the_claims_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Measured("More", "a", [1, 2], "b", [0, 0], "seeds", "values")

    def call(options: str, text: str) -> str:
        words = f"python -m experiments.small {options} --out {tmp_path}".split()
        monkeypatch.setattr(sys, "orig_argv", words)
        return str(write_claims(tmp_path, [replace(one, text=text)]).relative_to(tmp_path))

    assert call("--sizes 200 --seeds 3", "First") == "claims.json"
    assert call("--sizes 2000", "Second") == "sizes-2000/claims.json"
    assert call("--sizes 2000 --resume", "Third") == "sizes-2000/claims.json"
    assert call("--sizes=200", "Fourth") == "sizes=200/claims.json"
    texts = {read_claims(file)[0][0].text for file in tmp_path.rglob("claims.json")}
    assert texts == {"First", "Third", "Fourth"}
    assert call("--sizes 200 --seeds 5", "Fifth") == "claims.json"


def test_no_claims_and_equal_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^claims must hold at least one claim, got none$"):
        write_claims(tmp_path, [])
    with pytest.raises(ValueError, match=r"^claims must differ in their text, got 'Wide nets"):
        write_claims(tmp_path, [BETTER, BETTER])
    assert not list(tmp_path.iterdir())
