"""Ensembles of run folders: mean probabilities, one more system in every table, no clip that a member has learnt."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fake_predictions import chosen, random_predictions
from fake_runs import SELECTED_ON_TEST, clips, score, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from runner import ROOT, script
from scipy.special import softmax

from hf_vivae.evaluation.comparison import score_group
from hf_vivae.evaluation.runs import find_folders
from hf_vivae.evaluation.systems import System, add_ensembles, average, join_folds
from hf_vivae.evaluation.tables import explain_ensembles

EVALUATE = ROOT / "recipes" / "evaluate.py"
# label 0 is likelier in the product of the two, label 1 in their mean
SURE, UNSURE = [0.24, 0.7, 0.03, 0.01, 0.01, 0.01], [0.6, 0.15, 0.01, 0.2, 0.02, 0.02]
MEAN = [0.42, 0.425, 0.02, 0.105, 0.015, 0.015]


def evaluate(output: Path, *argv: str | Path) -> dict:
    """The only group of `results.json`."""
    script(EVALUATE).main([*map(str, argv), "--output_dir", str(output)])
    (group,) = json.loads((output / "results.json").read_text())["groups"]
    return group


def ensemble(place: Path, *names: str) -> System:
    (group,) = add_ensembles(join_folds(find_folders([place])[0]), names)
    (found,) = [system for system in group.systems if system.members]
    return found


def saying(probabilities: list[float], rows: list[dict], shift: float = 0.0) -> list[dict]:
    """The rows with logits that all have these probabilities."""
    return [{**row, "logits": (np.log(probabilities) + shift).tolist()} for row in rows]


def half_right(first: bool, count: int = 72) -> list[dict]:
    """Clips of which one half is answered right and surely, the other wrong and with doubt."""
    rows = []
    for place, row in enumerate(clips(count)):
        right = (place < count // 2) == first
        logits = np.zeros(6)
        logits[row["label"] if right else (row["label"] + 1) % 6] = 5.0 if right else 1.0
        rows.append({**row, "logits": logits.tolist()})
    return rows


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """Two systems of one seed, each right for its half of the clips; the second is marked."""
    place = tmp_path_factory.mktemp("pair")
    write_run(place / "mlp", "mlp", rows=half_right(first=True))
    write_run(place / "vit", "vit-32-30", rows=half_right(first=False), settings={"select_on": "test"})
    return place


def test_probabilities_worked_out_by_hand(tmp_path):
    write_run(tmp_path / "a", "mlp", rows=saying(SURE, clips(12)))
    write_run(tmp_path / "b", "vit-32-30", rows=saying(UNSURE, clips(12), shift=3.0))
    (run,) = ensemble(tmp_path).runs
    for part in ("train", "validation", "test"):
        found = run.read(part)
        assert len(found) == 12
        assert softmax(found.logits, axis=1) == pytest.approx(np.tile(MEAN, (12, 1)), abs=1e-7)
        assert set(found.predicted) == {1}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5), st.floats(0, 40))
def test_an_average_is_that_of_probabilities_and_of_no_member_alone(seed, number, lean):
    members = [random_predictions(seed + place, lean=lean) for place in range(number)]
    found = average(members)
    mean = np.mean([softmax(member.logits, axis=1) for member in members], axis=0)
    assert softmax(found.logits, axis=1) == pytest.approx(mean, abs=1e-12)
    assert np.isfinite(found.logits).all()
    back = average(members[::-1])
    assert back.logits == pytest.approx(found.logits, abs=1e-9)
    for name in ("files", "labels", "folds", "speakers"):
        assert np.array_equal(getattr(found, name), getattr(members[0], name))


def test_clips_that_a_member_lacks_are_in_no_average():
    whole = random_predictions(1)
    part = chosen(random_predictions(2), np.arange(10, 60))
    found = average([whole, part])
    assert found.files.tolist() == part.files.tolist()
    assert softmax(found.logits, axis=1) == pytest.approx(
        (softmax(whole.logits[10:], axis=1) + softmax(part.logits, axis=1)) / 2
    )
    assert average([whole, chosen(part, part.folds == "1-of-2")]) is None, "a fold has none"


def test_two_halves_are_a_whole_in_every_file(pair, tmp_path, capsys):
    group = evaluate(tmp_path, pair, "--ensemble", "mlp paper", "vit-32-30 paper")
    systems = {system["name"]: system for system in group["systems"]}
    name = "ensemble of mlp paper + vit-32-30 paper"
    accuracies = {key: system["scores"]["accuracy"]["value"] for key, system in systems.items()}
    assert accuracies == {"mlp paper": 0.5, "vit-32-30 paper": 0.5, name: 1.0}
    assert systems[name]["members"] == ["mlp paper", "vit-32-30 paper"]
    assert systems[name]["marked"] == [SELECTED_ON_TEST]
    assert systems[name]["selection"] == "uar on test, uar on validation"
    assert systems[name]["folds"] == "3 of 3"
    assert systems[name]["majority"] == systems["mlp paper"]["majority"]
    assert systems[name]["calibration"]["loss_scaled"] is None, "the marked one has no validation clips"
    by_names = {(pair["first"], pair["second"]): pair for pair in group["comparisons"]}
    against = by_names[name, "mlp paper"]
    assert (against["accuracy"]["value"], against["only_first"], against["only_second"]) == (0.5, 36, 0)
    printed = capsys.readouterr().out
    assert f"{name} *" in printed
    tables = next((tmp_path / "tables").glob("synthetic-*"))
    for table in ("scores", "uar", "accuracy", "auc", "calibration", "by-speaker", "by-fold", "confusion"):
        assert f"{name} *" in (tables / f"{table}.csv").read_text(), table
    joined = "probabilities (Lakshminarayanan, Pritzel and Blundell 2017): mlp paper; vit-32-30 paper. All have the"
    assert joined in (tables / "scores.md").read_text()
    assert joined in printed
    report = (tmp_path / "report.md").read_text()
    assert "Finished run folders: 6. Runs: 2. Systems, counted once in each group: 2. Ensembles of them: 1." in report
    with (tmp_path / "tables" / "runs.csv").open() as text:
        assert [row["system"] for row in csv.DictReader(text)].count(f"{name} *") == 0


def test_the_usage_has_the_folders_before_the_names_that_would_take_them(capsys):
    with pytest.raises(SystemExit):
        script(EVALUATE).main(["--help"])
    usage = capsys.readouterr().out.split("\n\n")[0]
    assert usage.endswith("RUN [RUN ...] [arguments]")
    with pytest.raises(ValueError, match=r"the following arguments are required: RUN; see --help_all"):
        script(EVALUATE).main(["--ensemble", "mlp paper", "vit-32-30 paper", "runs"])


def test_a_report_without_an_ensemble_does_not_mention_one(pair, tmp_path):
    group = evaluate(tmp_path, pair, "--baseline", "mlp paper")
    assert [system["name"] for system in group["systems"]] == ["mlp paper", "vit-32-30 paper"]
    assert "nsemble" not in (tmp_path / "report.md").read_text()


def test_a_temperature_is_fitted_on_the_ensembles_own_validation_clips(tmp_path):
    for model in ("mlp", "vit-32-30"):
        write_run(tmp_path / model, model, skill=3.0)
    (group,) = add_ensembles(join_folds(find_folders([tmp_path])[0]), ())
    (run,) = next(system for system in group.systems if system.members).runs
    assert run.read("validation").files.tolist() == run.read("test").files.tolist(), "each clip, in another fold"
    assert not set(zip(run.read("validation").files, run.read("validation").folds, strict=True)) & set(
        zip(run.read("test").files, run.read("test").folds, strict=True)
    )


def test_several_systems_are_joined_seed_by_seed(tmp_path):
    for model, seeds in (("mlp", (1, 2, 10)), ("vit-32-30", (10, 2, 3))):
        for seed in seeds:
            write_run(tmp_path / model / str(seed), model, seed=seed)
    found = ensemble(tmp_path, "vit-32-30 paper", "mlp paper")
    assert (found.name, found.seeds) == ("ensemble of mlp paper + vit-32-30 paper", ["2", "10"])
    alone = {system.name: system for system in join_folds(find_folders([tmp_path])[0])[0].systems}
    for run in found.runs:
        tests = [next(one for one in alone[name].runs if one.seed == run.seed).read("test") for name in found.members]
        mean = np.mean([softmax(test.logits, axis=1) for test in tests], axis=0)
        assert softmax(run.read("test").logits, axis=1) == pytest.approx(mean)


def test_many_members_are_named_below_the_scores(tmp_path):
    for number in range(4):
        write_run(tmp_path / str(number), count=12, settings={"learning_rate": 0.1 + number})
    found = ensemble(tmp_path)
    assert found.name == "ensemble of 4 systems"
    assert explain_ensembles([found]).count("mlp paper learning_rate=") == 4


@pytest.mark.parametrize("names", [[], ["mlp paper"]])
def test_one_system_is_joined_over_its_seeds(names, tmp_path):
    for seed in (1, 2, 10):
        write_run(tmp_path / str(seed), seed=seed)
    found = ensemble(tmp_path, *names)
    assert (found.name, found.seeds) == ("ensemble of 3 seeds of mlp paper", ["1+2+10"])
    assert (found.covered, found.whole, len(found.runs)) == ("3 of 3", True, 1)


def test_an_ensemble_over_seeds_is_compared_with_the_mean_of_its_seeds(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / str(seed), seed=seed, rows=half_right(first=seed == 1))
    (group,) = add_ensembles(join_folds(find_folders([tmp_path])[0]), ())
    (found,) = score_group(group, None, lambda: None).pairs
    assert (found.first.name, found.second.name) == ("ensemble of 2 seeds of mlp paper", "mlp paper")
    assert (found.seeds, found.comparison.accuracy.value, found.adjusted) == (("1", "2"), 0.5, None)


def test_folds_in_part_can_be_joined_with_the_same_folds(tmp_path):
    for model in ("mlp", "vit-32-30"):
        write_run(tmp_path / model, model, folds=[0, 2])
    found = ensemble(tmp_path)
    assert (found.covered, found.whole) == ("2 of 3", False)


def test_only_clips_that_all_members_tested_get_an_ensemble(tmp_path):
    for place, protocol, models in (("a", "speaker-k-fold", ("mlp", "vit-32-30")), ("b", "random-10-fold", ("mlp",))):
        for model in models:
            write_run(tmp_path / place / model, model, settings={"protocol": protocol})
    groups = add_ensembles(join_folds(find_folders([tmp_path])[0]), ["mlp paper", "vit-32-30 paper"])
    found = {group.clips.protocol: [system.name for system in group.systems] for group in groups}
    assert found == {
        "random-10-fold": ["mlp paper"],
        "speaker-k-fold": ["mlp paper", "vit-32-30 paper", "ensemble of mlp paper + vit-32-30 paper"],
    }


def test_an_ensemble_may_be_the_baseline(pair, tmp_path):
    name = "ensemble of mlp paper + vit-32-30 paper"
    group = evaluate(tmp_path, pair, "--baseline", name, "--ensemble")
    assert [found["second"] for found in group["comparisons"]] == [name, name]


def test_the_only_group_of_run_folders_is_as_it_was(pair):
    assert [scores.system.members for scores in score(pair).systems] == [(), ()]


# --- refusals


def redrawn(root: Path) -> None:
    """Two seeds with folds of their own: what one tests, the other trains on or selects on."""
    rows = clips(72)
    write_run(root / "1", seed=1, rows=rows)
    write_run(root / "2", seed=2, rows=rows[1:] + rows[:1])


def in_part(root: Path) -> None:
    write_run(root / "a", "mlp")
    write_run(root / "b", "vit-32-30", folds=[1, 2])


def other_seeds(root: Path) -> None:
    write_run(root / "a", "mlp", seed=1)
    write_run(root / "b", "vit-32-30", seed=2)


def other_protocol(root: Path) -> None:
    write_run(root / "a", "mlp")
    write_run(root / "b", "vit-32-30", settings={"protocol": "random-10-fold"})


def other_labels(root: Path) -> None:
    write_run(root / "a", "mlp")
    for folder in write_run(root / "b", "vit-32-30", corpus={"digest": "other"}):
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps({**results, "labels": results["labels"][::-1]}))


def other_clips(root: Path) -> None:
    write_run(root / "a", "mlp")
    write_run(root / "b", "vit-32-30", corpus={"digest": "other"})


def alone(root: Path) -> None:
    write_run(root)


@pytest.mark.parametrize(
    ("write", "names", "sentence"),
    [
        (
            redrawn,
            [],
            r"expected members of an ensemble to test the same clips in each fold, found that for S01_\w+_000\.wav in "
            r"fold 1-of-3 seed 1 of mlp paper tested it and seed 2 of mlp paper trained on it; name others with "
            r"--ensemble \(seeds of one system can be joined under a protocol that tests the same clips with each, "
            r"such as leave-one-speaker-out\)\.$",
        ),
        (
            in_part,
            [],
            r"expected members of an ensemble to have the same folds, found that vit-32-30 paper \(2 of 3 folds, seed "
            r"1\) lacks 1-of-3; train these too \(--folds\), or name others with --ensemble\.$",
        ),
        (
            other_seeds,
            [],
            r"expected a seed that all members of an ensemble have, found 1 of mlp paper; 2 of vit-32-30 paper; train "
            r"them with one seed, or name others with --ensemble\.$",
        ),
        (
            other_protocol,
            ["mlp paper", "vit-32-30 paper"],
            r"expected two runs or more of mlp paper, vit-32-30 paper with one corpus, task and protocol to join with "
            r"--ensemble, found none \(they differ in protocol\); name systems of one table, or one system with "
            r"several seeds\.$",
        ),
        (other_labels, [], r"with --ensemble, found none \(they differ in labels\); name systems of one table"),
        (other_clips, [], r"with --ensemble, found none \(they differ in clips or speakers\); name systems"),
        (alone, [], r"expected two runs or more of systems with one corpus, .* found none; name"),
        (alone, ["mlp paper"], r"expected two runs or more of mlp paper with one corpus, .* found none; name"),
        (
            alone,
            ["mpl paper"],
            r"expected --ensemble to be one of mlp paper, found 'mpl paper' \(did you mean mlp paper\?\)\.$",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused_before_anything_is_written(write, names, sentence, tmp_path):
    write(tmp_path / "runs")
    with pytest.raises(ValueError, match=sentence):
        evaluate(tmp_path / "out", tmp_path / "runs", "--ensemble", *names)
    assert not (tmp_path / "out").exists()


def test_a_clip_that_another_member_selected_on_is_named(tmp_path):
    rows = clips(72)
    write_run(tmp_path / "a", "mlp", rows=rows)
    write_run(tmp_path / "b", "vit-32-30", rows=rows[-1:] + rows[:-1])
    with pytest.raises(ValueError, match=r"fold 1-of-3 mlp paper tested it and vit-32-30 paper selected on it;"):
        ensemble(tmp_path)
