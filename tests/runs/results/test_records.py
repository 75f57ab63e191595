"""Records as a repository keeps them, and the tables of claims that are made from them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ROOT, python
from run_records import fake, rows

from cnnjax.config import TrainingConfig
from cnnjax.recipes import Claim, Experiment, Measured, Options, run_experiment, write_claims
from cnnjax.recipes.reproduce import reproduce
from cnnjax.runs import RunDirectory, RunError
from cnnjax.runs.results import collect, keep_records, write_results

CLAIM = Claim("Wide is better", "net/wide", "net/narrow", "test_accuracy")


def arm(folder: Path, name: str, accuracies: Sequence[float], **changes: Any) -> None:
    """Runs of one arm, seeds from 0 on."""
    for seed, accuracy in enumerate(accuracies):
        place = folder / name / f"{changes.get('recipe', 'tuned')}{seed}"
        fake(place, seed, accuracy, experiment=name, **changes)


def made(file: Path, options: str, time: str) -> None:
    """Claims as if they were written by a call of a study with these options, at this time."""
    content = json.loads(file.read_text())
    del content["seal"]
    command = f"python -m experiments.small {options}"
    file.write_text(json.dumps({**content, "command": command, "time": time}))


def judged(folder: Path, **options: Any) -> list[dict[str, str]]:
    """The rows of the table of claims."""
    file = write_results([folder], folder / "RESULTS.md", **options)
    if "## Claims" not in file.read_text():
        return []
    head, _, *cells = rows(file, "Claims")
    return [dict(zip(head, row, strict=True)) for row in cells]


def silent(text: str) -> None:
    pass


def test_a_claim_is_judged_on_the_runs_of_its_arms(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.93, 0.94, 0.92])
    arm(tmp_path, "net/narrow", [0.90, 0.92, 0.89, 0.5])  # whose last one has no partner
    write_claims(tmp_path / "net", [CLAIM])
    (row,) = judged(tmp_path)
    assert row.pop("command").startswith("`python")
    assert row == {
        "claim": "Wide is better",
        "arms": "net: wide against narrow",
        "recipe": "tuned",
        "data": "squares train",
        "metric": "test accuracy",
        "first arm": "93.00 ± 1.00",
        "second arm": "90.33 ± 1.53",
        "pairs": "3 (0 to 2)",
        "difference": "+2.67 (+1.23 to +4.10)",  # 2.667 ± 4.3027 * 0.577 / sqrt(3)
        "verdict": "holds",
    }


def test_the_table_of_claims_stands_before_where_and_how_and_is_renewed(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.93, 0.94])
    arm(tmp_path, "net/narrow", [0.90, 0.92])
    file = write_results([tmp_path], tmp_path / "RESULTS.md")
    assert "## Claims" not in file.read_text()
    write_claims(tmp_path / "net", [CLAIM])
    text = write_results([tmp_path], file).read_text()
    assert re.findall("^## (.*)$", text, re.M) == ["Figures", "Claims", "Where and how"]
    assert write_results([tmp_path], file).read_text() == text


def test_the_epoch_of_the_result_parameters_and_the_gap_can_be_claimed_of(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.75, 0.75], parameters=2000)
    arm(tmp_path, "net/narrow", [0.875, 0.875], parameters=1000)
    claims = [
        Claim("More parameters", "net/wide", "net/narrow", "parameters", by=999.5),
        Claim("Overfits more", "net/wide", "net/narrow", "gap", by=0.1),
        Claim("Learns as well", "net/wide", "net/narrow", "accuracy", within=0.005),
    ]
    write_claims(tmp_path / "net", claims)
    found = {row["claim"]: row for row in judged(tmp_path)}
    more = found["More parameters"]
    assert (more["first arm"], more["second arm"]) == ("2,000", "1,000")
    assert more["difference"] == "+1,000 (+1,000 to +1,000)"
    assert more["metric"] == "parameters, by more than 999.5"
    gap = found["Overfits more"]
    assert gap["first arm"] == "24.00 ± 0.00"  # 99 % in training, 75 % on test data
    assert gap["metric"] == "gap, by more than 10"
    alike = found["Learns as well"]
    assert alike["metric"] == "accuracy, alike within 0.5"
    assert [row["verdict"] for row in found.values()] == ["holds"] * 3


def test_every_recipe_and_data_set_of_both_arms_is_a_row(tmp_path: Path) -> None:
    other = {"train": {"name": "circles train", "examples": 10, "fingerprint": "b"}}
    for name in ("net/wide", "net/narrow"):
        arm(tmp_path, name, [0.9, 0.8])
        arm(tmp_path / "more", name, [0.9, 0.8], data=other)
    arm(tmp_path, "net/wide", [0.9, 0.8], recipe="reported")
    write_claims(tmp_path / "net", [CLAIM])
    found = judged(tmp_path)
    assert [(row["recipe"], row["data"]) for row in found] == [
        ("tuned", "circles train"),
        ("tuned", "squares train"),
    ]


def test_arms_on_different_data_are_paired_where_that_leaves_no_choice(tmp_path: Path) -> None:
    other = {"train": {"name": "features of squares", "examples": 10, "fingerprint": "b"}}
    arm(tmp_path, "net/wide", [0.9, 0.8])
    arm(tmp_path, "net/narrow", [0.8, 0.7], data=other)
    write_claims(tmp_path / "net", [CLAIM])
    (row,) = judged(tmp_path)
    assert row["data"] == "squares train / features of squares"
    third = {"train": {"name": "more features", "examples": 10, "fingerprint": "c"}}
    arm(tmp_path / "more", "net/narrow", [0.8, 0.7], data=third)
    said: list[str] = []
    assert len(judged(tmp_path, anew=True, say=said.append)) == 0
    assert said == [
        "not judged: Wide is better: which data of net/wide and net/narrow belong together is not "
        "known"
    ]


@pytest.mark.parametrize(
    ("narrow", "reason"),
    [
        (None, "no runs of net/narrow yet"),
        (
            {"recipe": "reported"},
            "no runs of net/wide and net/narrow with the same recipe yet",
        ),
        ({"seed": 7}, "no runs of net/wide and net/narrow with the same seed yet"),
    ],
)
def test_claims_without_runs_are_named(
    tmp_path: Path, narrow: dict | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arm(tmp_path, "net/wide", [0.9, 0.8])
    if narrow is not None:
        arm(tmp_path, "net/narrow", [0.8], **narrow) if "recipe" in narrow else fake(
            tmp_path / "net" / "narrow", 7, 0.8, experiment="net/narrow"
        )
    write_claims(tmp_path / "net", [CLAIM])
    assert judged(tmp_path) == []
    assert capsys.readouterr().out == f"not judged: Wide is better: {reason}\n"


def test_a_metric_that_the_runs_lack_offers_the_nearest(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.9])
    arm(tmp_path, "net/narrow", [0.9])
    write_claims(tmp_path / "net", [Claim("More", "net/wide", "net/narrow", "tset_accuracy")])
    with pytest.raises(RunError, match=r"^the claim 'More' is on 'tset_accuracy', which the runs "
                       r"of net/wide do not have\. Did you mean 'test_accuracy'"):  # fmt: skip
        write_results([tmp_path], tmp_path / "RESULTS.md")
    write_claims(tmp_path / "net", [Claim("More", "net/wide", "net/narrow", "test_loss")])
    arm(tmp_path / "new", "net/wide", [0.9], metrics={"test_loss": float("nan")}, ended="2027")
    with pytest.raises(RunError, match=r"^the claim 'More' cannot be judged by test_loss: first "
                       r"must hold finite numbers, got nan$"):  # fmt: skip
        write_results([tmp_path], tmp_path / "RESULTS.md")


def test_measured_values_need_no_runs_and_the_newest_claim_counts(tmp_path: Path) -> None:
    arm(tmp_path, "other", [0.5])
    for folder, second in (("a", [0.25, 0.125, 0.125]), ("b", [0.5, 0.5, 0.5])):
        measured = Measured(
            "Max keeps more", "max", [0.5, 0.25, 0.5], "average", second, "photos", "share"
        )
        file = write_claims(tmp_path / folder, [measured])
        made(file, "--out o --seeds 3", {"a": "2026-01-02", "b": "2026-01-01"}[folder])
    (row,) = judged(tmp_path)
    assert row["arms"] == "max against average"
    assert row["pairs"] == "3 photos"
    assert row["first arm"] == "0.4167 ± 0.1443"
    assert row["recipe"] == row["data"] == ""
    assert row["difference"].startswith("+0.25000 (")


def test_measured_values_of_other_options_are_another_row(tmp_path: Path) -> None:
    arm(tmp_path, "other", [0.5])
    for number, options in enumerate(("", "--train-examples 100", "--train-examples=100 --resume")):
        values = [0.5 + number, 0.25, 0.5]
        one = Measured("Max is more.", "max", values, "average", [0, 0, 0], "photos", "share")
        said = f"{options} --seeds {3 + number} --out /o{number}"
        made(write_claims(tmp_path / str(number), [one]), said, f"2026-01-0{number + 1}")
    whole, few, same = judged(tmp_path)
    assert (whole["recipe"], few["recipe"], same["recipe"]) == (
        "", "--train-examples 100", "--train-examples=100",
    )  # fmt: skip
    assert {row["claim"] for row in (whole, few, same)} == {"Max is more"}
    assert whole["command"] == "`python -m experiments.small --seeds 3`"


def test_one_text_on_two_metrics_is_two_rows(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.9, 0.8])
    arm(tmp_path, "net/narrow", [0.8, 0.7])
    for metric in ("accuracy", "test_accuracy"):
        write_claims(tmp_path / metric, [Claim("Better", "net/wide", "net/narrow", metric)])
    assert [row["metric"] for row in judged(tmp_path)] == ["accuracy", "test accuracy"]


def test_claims_of_one_study_stand_together(tmp_path: Path) -> None:
    arm(tmp_path, "other", [0.5])
    for study, texts in (("small", ("C", "A")), ("other", ("B",))):
        claims = [Measured(text, "a", [1, 2], "b", [0, 0], "photos", "share") for text in texts]
        file = write_claims(tmp_path / study, claims)
        made(file, "", "2026-01-01")
        file.write_text(file.read_text().replace(".small", f".{study}"))
    assert [row["claim"] for row in judged(tmp_path)] == ["B", "A", "C"]


def test_seconds_are_those_of_the_median_epoch_but_the_first(tmp_path: Path) -> None:
    for name, seconds in (("net/wide", (9, 1, 4, 2)), ("net/narrow", (90, 1, 1, 1))):
        arm(tmp_path, name, [0.9, 0.8])
        for file in (tmp_path / name).rglob("metrics.jsonl"):
            lines = [{"epoch": i, "accuracy": 1, "seconds": s} for i, s in enumerate(seconds, 1)]
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_claims(tmp_path / "net", [Claim("Slower", "net/wide", "net/narrow", "seconds")])
    (row,) = judged(tmp_path)
    assert (row["first arm"], row["second arm"], row["verdict"]) == ("2", "1", "holds")


def test_measured_accuracies_are_in_percent_and_large_bounds_in_digits(tmp_path: Path) -> None:
    arm(tmp_path, "other", [0.5])
    arms: dict[str, Any] = {"first_name": "a", "second_name": "b", "pairs": "seeds"}
    write_claims(
        tmp_path,
        [
            Measured("Faster", metric="accuracy at first", first=[0.75], second=[0.5], **arms),
            Measured("More", metric="values", first=[3e6], second=[1e6], by=1234567.8, **arms),
        ],
    )
    fast, more = judged(tmp_path)
    assert (fast["first arm"], fast["second arm"]) == ("75.00", "50.00")
    assert more["first arm"] == "3,000,000"
    assert more["metric"] == "values, by more than 1,234,568"


def test_one_pair_has_no_interval(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.9])
    arm(tmp_path, "net/narrow", [0.8])
    write_claims(tmp_path / "net", [CLAIM])
    (row,) = judged(tmp_path)
    assert row["difference"] == "+10.00 (1 pair, and an interval takes two)"
    assert row["verdict"] == "not decided"


def test_rows_of_few_seeds_are_left_out_and_named(tmp_path: Path) -> None:
    arm(tmp_path, "net/wide", [0.9, 0.8, 0.7])
    arm(tmp_path, "net/narrow", [0.8, 0.7])
    write_claims(tmp_path / "net", [CLAIM])
    said: list[str] = []
    file = write_results([tmp_path], tmp_path / "R.md", least_seeds=3, say=said.append)
    assert [row[0] for row in rows(file, "Figures")[2:]] == ["net/wide"]
    assert said == [
        "left out: net/narrow, tuned, squares train: 2 of 3 seeds",
        "left out: Wide is better: 2 of 3 pairs",
    ]


def test_anew_only_rows_with_records_stay_and_others_become_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    arm(tmp_path / "old", "first", [0.5, 0.6])
    arm(tmp_path / "old", "second", [0.7, 0.8])
    write_results([tmp_path / "old"], file)
    arm(tmp_path / "new", "second", [0.8, 0.9])
    write_results([tmp_path / "new"], file, anew=True)
    assert [row[0] for row in rows(file, "Figures")[2:]] == ["second"]
    assert [row[0] for row in rows(file, "Where and how")[2:]] == ["second"]
    earlier = rows(file, "Earlier figures, without records")
    assert [row[0] for row in earlier[2:]] == ["first"]
    once = file.read_text()
    assert write_results([tmp_path / "new"], file, anew=True).read_text() == once
    write_results([tmp_path / "old" / "first"], file)
    assert rows(file, "Earlier figures, without records")[2:] == []


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a small experiment on a file of this machine."""
    folder = tmp_path_factory.mktemp("real")
    images = np.random.default_rng(0).integers(0, 255, (96, 12, 12, 1), dtype=np.uint8)
    labels = np.arange(96) % 3
    np.savez(folder / "squares.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for seed in (0, 1):
        experiment = Experiment(
            "net/small", "a small net", "mlp", TrainingConfig(epochs=2, batch_size=16),
            "squares.npz", arguments={"units": (8,)},
        ).with_options(Options(data=str(folder / "squares.npz"), seed=seed))  # fmt: skip
        run_experiment(experiment, folder / "runs" / str(seed), verbose=False)
    measured = Measured("More", "a", [1.0, 2.0], "b", [0.5, 0.5], "photos", "share")
    write_claims(folder / "runs" / "study", [measured])
    return folder


def test_kept_records_make_the_same_tables(real: Path, tmp_path: Path) -> None:
    kept = keep_records([real / "runs"], tmp_path / "records", say=silent)
    tables = [
        write_results([folder], tmp_path / name).read_text()
        for folder, name in ((real / "runs", "a.md"), (kept, "b.md"))
    ]
    assert tables[0] == tables[1]
    assert "## Claims" in tables[0]
    assert sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*.json*")) == [
        f"net/small/squares.npz-train-seed{seed}/{name}"
        for seed in (0, 1)
        for name in ("config.json", "metrics.jsonl", "model.json", "run.json")
    ] + ["study/claims.json"]


def test_kept_records_stay_the_same_when_kept_again(real: Path, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        kept = keep_records([real / "runs"], tmp_path / "records")
        texts.append({path: path.read_bytes() for path in sorted(kept.rglob("*.json*"))})
    assert texts[0] == texts[1]


def test_kept_records_name_no_place_and_their_seals_hold(real: Path, tmp_path: Path) -> None:
    assert str(real) in (real / "runs" / "0" / "run.json").read_text()
    kept = keep_records([real / "runs"], tmp_path / "records")
    assert not places_in(kept)
    run = RunDirectory(kept / "net/small/squares.npz-train-seed0")
    record, _, epochs = run.read_whole()
    assert record["source"]["data"] == "squares.npz"
    assert len(epochs) == 2
    file = run.path / "run.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 3'))
    with pytest.raises(RunError, match="was changed"):
        run.read_whole()


def test_a_kept_record_can_be_run_again_to_the_bit(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep_records([real / "runs"], tmp_path / "records")
    monkeypatch.chdir(real)  # where the file is that the record names
    again = reproduce(kept / "net/small/squares.npz-train-seed1", verbose=False)
    assert again.same


def test_a_newer_run_replaces_the_kept_one_and_other_settings_are_refused(tmp_path: Path) -> None:
    arm(tmp_path / "a", "net", [0.5, 0.6])
    arm(tmp_path / "b", "net", [0.9], ended="2027-01-01")
    kept = keep_records([tmp_path / "a"], tmp_path / "records")
    keep_records([tmp_path / "b"], kept)
    keep_records([tmp_path / "a"], kept)
    (result,) = collect([kept])
    assert result.values("test_accuracy") == [0.9, 0.6]
    arm(tmp_path / "c", "net", [0.9], ended="2028-01-01")
    config = json.loads((tmp_path / "c/net/tuned0/config.json").read_text())
    config["training"]["epochs"] = 3
    (tmp_path / "c/net/tuned0/config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="differs in more than the seed"):
        keep_records([tmp_path / "c"], kept)
    assert collect([kept])[0].values("test_accuracy") == [0.9, 0.6]


def test_kept_claims_of_other_options_stay_beside_and_older_ones_replace_none(
    tmp_path: Path,
) -> None:
    arm(tmp_path / "a", "net", [0.5, 0.6])
    one = Measured("Max is more", "max", [1, 2], "average", [0, 0], "photos", "share")
    calls = (("a", "", "02"), ("b", "--train-examples 9", "03"), ("c", "--seeds 3", "01"))
    for name, options, day in calls:
        made(write_claims(tmp_path / name / "net", [one]), options, f"2026-01-{day}")
    sources = [tmp_path / name for name in "abc"]
    kept = keep_records(sources, tmp_path / "records", say=silent)
    times = {
        str(file.parent.relative_to(kept)): json.loads(file.read_text())["time"]
        for file in kept.rglob("claims.json")
    }
    assert times == {"net": "2026-01-02", "net/train-examples-9": "2026-01-03"}
    write_results([kept], tmp_path / "kept.md")
    write_results(sources, tmp_path / "all.md")
    assert len(rows(tmp_path / "kept.md", "Claims")) == len(rows(tmp_path / "all.md", "Claims"))


def test_strange_names_stay_below_the_folder(tmp_path: Path) -> None:
    data = {"train": {"name": "../" * 9 + "x" * 300, "examples": 10, "fingerprint": "a"}}
    arm(tmp_path / "runs", "net", [0.5], data=data)
    run = tmp_path / "runs" / "net" / "tuned0"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "experiment": "../../out"}))
    kept = keep_records([tmp_path / "runs"], tmp_path / "records")
    (file,) = kept.rglob("run.json")
    assert file.relative_to(kept).parts[:3] == ("_", "_", "out")
    assert len(file.parent.name) < 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["records", "runs"]


@pytest.mark.thorough
def test_the_command_keeps_and_makes_the_tables_anew(tmp_path: Path) -> None:
    arm(tmp_path / "checkpoints", "net", [0.5, 0.6])
    arm(tmp_path / "checkpoints", "other", [0.5])
    command = ("-m", "cnnjax", "results", "--keep", "docs/records", "--least-seeds", "2")
    done = python(*command, cwd=tmp_path)
    assert done.stdout == "left out: other, tuned, squares train: 1 of 2 seeds\nRESULTS.md\n"
    assert len(list((tmp_path / "docs/records").rglob("run.json"))) == 2
    done = python(*command[:3], "--least-seeds", "0", cwd=tmp_path, status=1)
    assert done.stderr == "error: --least-seeds must be at least 1, got 0\n"


RECORDS, RESULTS = ROOT / "docs" / "records", ROOT / "RESULTS.md"


def test_the_repositorys_tables_are_made_from_its_records_alone(tmp_path: Path) -> None:
    shutil.copy(RESULTS, tmp_path / "RESULTS.md")
    made = write_results([RECORDS], tmp_path / "RESULTS.md", least_seeds=3, anew=True, say=silent)
    assert made.read_bytes() == RESULTS.read_bytes()


def test_no_row_of_the_repository_is_of_less_than_three_seeds() -> None:
    head, _, *figures = rows(RESULTS, "Figures")
    column = head.index("seeds")
    assert figures
    assert [row[0] for row in figures if int(row[column].split()[0]) < 3] == []
    if "## Claims" in RESULTS.read_text():
        head, _, *claims = rows(RESULTS, "Claims")
        for row in claims:
            cells = dict(zip(head, row, strict=True))
            assert cells["verdict"] in ("holds", "does not hold", "not decided"), cells["claim"]
            assert re.fullmatch(r"[+-]\S+ \([+-]\S+ to [+-]\S+\)", cells["difference"]), cells


def test_the_repositorys_records_name_no_place_of_a_machine() -> None:
    assert not places_in(RECORDS)


def places_in(folder: Path) -> list[str]:
    """Texts in records that begin with, or have in them, a path from the root or a home."""
    return [
        f"{file.name}: {text}"
        for file in folder.rglob("*.json*")
        for line in ([file.read_text()] if file.suffix == ".json" else file.read_text().split("\n"))
        if line
        for text in texts_in(json.loads(line))
        if re.search(r"(^|[\s='\"])(~|[A-Za-z]:)?[/\\][^\s/]", text)
    ]


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)
