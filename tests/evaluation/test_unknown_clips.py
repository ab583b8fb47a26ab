"""AUROC and false positives of runs that shall reject clips of other folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runner import ROOT, flags, run, script
from sklearn.metrics import roc_auc_score, roc_curve

from hf_vivae.checkpoints.open_set import OutputLabels
from hf_vivae.evaluation.arguments import parse_evaluation
from hf_vivae.evaluation.bootstrap import auc
from hf_vivae.evaluation.open_set import evaluate_open_set, false_positive_rate, margins
from hf_vivae.run_folder import read_predictions
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def trained(tiny_vivae, tmp_path_factory) -> Path:
    """Two folds of a run with a threshold."""
    output = tmp_path_factory.mktemp("trained")
    run(flags(tiny_vivae, output, "mlp", "--reject_rate", "0.2", "--folds", "0", "1", "--num_train_epochs", "1"))
    return output


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Folders of noise and of tones, some in a subfolder."""
    root, rng = tmp_path_factory.mktemp("unknown"), np.random.default_rng(0)
    (root / "tones" / "high").mkdir(parents=True)
    (root / "noise").mkdir()
    for number in range(6):
        soundfile.write(root / "noise" / f"{number}.wav", rng.uniform(-0.5, 0.5, 20000), 44100)
        tone = 0.5 * np.sin(np.arange(20000) * 0.02 * (number + 1))
        soundfile.write(root / "tones" / ("high" if number > 3 else "") / f"{number}.wav", tone, 44100)
    return [root / "noise", root / "tones"]


def rows(table) -> list[dict]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_a_run_has_a_row_for_each_folder_and_one_for_all(trained, folders, tmp_path, capsys):
    arguments = [str(trained), "--unknown", *map(str, folders), "--output_dir", str(tmp_path)]
    script(ROOT / "recipes" / "evaluate.py").main(arguments)
    cells = json.loads((tmp_path / "results.json").read_text())["open_set"]
    assert [row["unknown"] for row in cells] == [*map(str, folders), "all"]
    assert [row["unknown clips"] for row in cells] == [6, 6, 12]
    for row in cells:
        assert (row["run"], row["rejects by"], row["known clips"]) == (str(trained), "maximum logit", 24)
        assert 0 <= row["AUROC from"] <= row["AUROC"] <= row["AUROC to"] <= 1
        assert 0 <= row["FPR from"] <= row["FPR at 95 % TPR"] <= row["FPR to"] <= 1
    tested = [
        (row["logits"], json.loads((folder / "config.json").read_text())["open_set"]["threshold"])
        for folder in sorted(trained.glob("S0*"))
        for row in read_predictions(folder)
        if row["split"] == "test"
    ]
    assert cells[0]["known rejected"] == np.mean([max(logits) < threshold for logits, threshold in tested])
    assert cells[2]["unknown rejected"] == pytest.approx(np.mean([row["unknown rejected"] for row in cells[:2]]))
    assert "| all |" in capsys.readouterr().out
    assert (tmp_path / "tables" / "open_set.csv").is_file()


def test_folders_may_have_different_sampling_rates(trained, folders, tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    cells = rows(evaluate_open_set([trained], [folders[0], tmp_path]))
    assert [row["unknown clips"] for row in cells] == [6, 1, 7]


def test_clips_that_trained_a_checkpoint_are_not_unknown_to_it(trained, folders, tiny_vivae, tmp_path, caplog):
    mixed = Path(shutil.copytree(folders[0], tmp_path / "mixed"))
    for file in (tiny_vivae / "full_set").glob("S03_*"):  # trains in both folds
        shutil.copy(file, mixed)
    (alone,), (with_trained,) = (rows(evaluate_open_set([trained], [folder])) for folder in (folders[0], mixed))
    assert "12 unknown clips that trained or selected" in caplog.text
    assert {**with_trained, "unknown": None} == {**alone, "unknown": None}
    for file in folders[0].iterdir():
        (mixed / file.name).unlink()
    with pytest.raises(UserError, match=r"expected clips in .* that .* was not trained on, found that all"):
        evaluate_open_set([trained], [mixed])


def test_damaged_clips_are_named_or_left_out_and_silence_is_scored(trained, folders, tmp_path):
    others = Path(shutil.copytree(folders[0], tmp_path / "others"))
    soundfile.write(others / "silence.wav", np.zeros(20000), 44100)
    (others / "damaged.wav").write_bytes((others / "silence.wav").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"1 bad audio \(damaged.wav"):
        evaluate_open_set([trained], [others])
    (row,) = rows(evaluate_open_set([trained], [others], "skip"))
    assert row["unknown clips"] == 7


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 40), st.integers(2, 40), st.booleans())
def test_scores_are_scikit_learns_also_of_drawn_clips(seed, known, unknown, ties):
    rng = np.random.default_rng(seed)
    is_known = rng.permutation(np.arange(known + unknown) < known)
    scores = rng.normal(size=known + unknown) + is_known
    scores = scores.round(1) if ties else scores
    places = rng.permutation(known + unknown)
    weights = np.stack((np.ones(known + unknown), rng.integers(0, 3, known + unknown)), axis=1).astype(float)
    weights[places[is_known.argmax()]] = weights[places[(~is_known).argmax()]] = 1  # some of both
    areas, rates = (function(is_known, scores, places)(weights) for function in (auc, false_positive_rate))
    for column, (area, rate) in enumerate(zip(areas, rates, strict=True)):
        drawn = np.repeat(np.arange(len(places)), weights[places, column].astype(int))
        assert area == pytest.approx(roc_auc_score(is_known[drawn], scores[drawn]))
        false, true, _ = roc_curve(is_known[drawn], scores[drawn], drop_intermediate=False)
        assert rate == pytest.approx(false[np.argmax(true >= 0.95 - 1e-9)])


def test_margins_are_below_zero_exactly_where_unknown_is_the_likeliest():
    logits = np.random.default_rng(0).normal(size=(200, 4))
    for output in (
        OutputLabels(("a", "b", "unknown"), (0, 2), (1, 3)),
        OutputLabels(("a", "b", "c", "d", "unknown"), (0, 1, 2, 3), (), 0.7),
    ):
        likeliest = output.merge(torch.from_numpy(logits)).argmax(dim=1).numpy()
        np.testing.assert_array_equal(margins(output, logits) < 0, likeliest == output.unknown)
    plain = OutputLabels(("a", "b", "c", "d"), (0, 1, 2, 3))
    np.testing.assert_array_equal(margins(plain, logits), logits.max(axis=1))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--cross"], "--unknown is for runs and their own test clips, found --cross; leave out"),
        (["--ensemble"], "found --ensemble"),
        (["--data", "synthetic"], "found --data"),
    ],
)
def test_what_unknown_is_not_for_is_refused(more, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_evaluation(["runs", "--unknown", "speech", *more])


def test_folders_without_clips_are_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"expected folders of clips with --unknown, found none at .*absent"):
        evaluate_open_set([trained], [tmp_path / "absent"])
    with pytest.raises(UserError, match=r"expected clips in the folder .* of --unknown, found none"):
        evaluate_open_set([trained], [tmp_path])
