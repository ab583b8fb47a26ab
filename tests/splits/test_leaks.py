"""Scores on data without anything to learn: at chance if speakers are kept apart, above it with each known leak."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import ClassLabel, Dataset
from runner import flags, run
from scipy.stats import binom
from sklearn.neighbors import KNeighborsClassifier

from hf_vivae.corpus import EMOTIONS, INTENSITIES
from hf_vivae.corpus.generated import noise_clip, stand_in_core
from hf_vivae.corpus.manifest import SAMPLING_RATE, read_manifest
from hf_vivae.splits import make_folds
from hf_vivae.splits.folds import PARTS, Fold
from hf_vivae.splits.protocols import PROTOCOLS
from hf_vivae.training.arguments import ReproductionArguments
from hf_vivae.training.scoring import report_scores

pytestmark = pytest.mark.usefixtures("no_pictures")

ROWS = read_manifest()
FILES = [row["file_name"] for row in ROWS]
# A session: the takes of a speaker with one emotion at one intensity. Its clips have similar features, as recordings
# of one afternoon have, and a common random label: a model that recognizes the session can predict it.
SESSIONS = np.unique([file.rpartition("_")[0] for file in FILES], return_inverse=True)[1]
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, len(EMOTIONS), SESSIONS.max() + 1)[SESSIONS]
FEATURES = RANDOM.standard_normal((SESSIONS.max() + 1, 16))[SESSIONS] + 0.01 * RANDOM.standard_normal((len(FILES), 16))


@pytest.fixture(scope="module")
def clips() -> Dataset:
    columns = {name: [row[name] for row in ROWS] for name in ("speaker", "intensity")}
    splits = np.random.default_rng(1).choice(["train", "validation", "test"], len(FILES), p=[0.8, 0.1, 0.1]).tolist()
    dataset = Dataset.from_dict(columns | {"file": FILES, "core": stand_in_core(FILES), "split": splits})
    return dataset.cast_column("intensity", ClassLabel(names=list(INTENSITIES)))


def memorise(fold: Fold) -> KNeighborsClassifier:
    """Return a model that stores the training clips, and predicts the label of the nearest one."""
    rows = list(fold.train)
    model = KNeighborsClassifier(1).fit(FEATURES[rows], LABELS[rows])
    assert model.score(FEATURES[rows], LABELS[rows]) == 1
    return model


def accuracy_by_session(folds: list[Fold]) -> tuple[float, int]:
    """Return the accuracy as a mean over the tested sessions, and the number of these sessions."""
    hits = np.full(len(FILES), np.nan)
    for fold in folds:
        rows = list(fold.test)
        hits[rows] = memorise(fold).predict(FEATURES[rows]) == LABELS[rows]
    tested = ~np.isnan(hits)
    sessions = np.bincount(SESSIONS[tested])
    shares = np.bincount(SESSIONS[tested], weights=hits[tested])[sessions > 0] / sessions[sessions > 0]
    return shares.mean(), len(shares)


def chance(sessions: int) -> tuple[float, float]:
    """Return the interval that contains the accuracy of 99.9 % of guesses; the clips of a session are one guess."""
    return tuple(np.array(binom.interval(0.999, sessions, 1 / len(EMOTIONS))) / sessions)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_random_labels_are_predicted_only_where_speakers_are_in_two_parts(protocol, clips):
    accuracy, sessions = accuracy_by_session(make_folds(clips, protocol, LABELS))
    low, high = chance(sessions)
    if PROTOCOLS[protocol].speaker_disjoint:
        assert low <= accuracy <= high
    else:
        assert accuracy > 0.8 > high


def test_a_redrawn_split_contains_training_clips(clips):
    """The paper's AUC is that of a split which is drawn again after training, and contains mostly training clips."""
    fold = make_folds(clips, "speaker-k-fold", LABELS)[0]
    model, rows = memorise(fold), []
    for part in PARTS:
        chosen = list(getattr(fold, part))
        logits = np.log(model.predict_proba(FEATURES[chosen]) + 1e-6)
        rows += [
            {"label": LABELS[row], "logits": scores, "split": part} for row, scores in zip(chosen, logits, strict=True)
        ]
    own, redrawn = (
        report_scores(ReproductionArguments(auc_scores="logits", auc_split=split), rows, EMOTIONS, seed=42)
        for split in ("test", "redrawn")
    )
    assert 0.4 < own["macro_auc"] < 0.6
    assert all(area > 0.8 for area in redrawn["auc"].values())


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `full_set/`: white noise under the names of two takes of 4 speakers and 6 emotions.

    It ends in a hum, after the part that the model takes: `read_vivae` refuses clips of white noise only.
    """
    hum = 0.2 * np.sin(np.arange(20_000) / 100)
    root = tmp_path_factory.mktemp("noise")
    (root / "full_set").mkdir()
    for speaker in ("S01", "S02", "S03", "S04"):
        for emotion in EMOTIONS:
            for name in [file for file in FILES if file.startswith(f"{speaker}_{emotion}")][:2]:
                clip = np.concatenate([noise_clip(name), hum])
                soundfile.write(root / "full_set" / name, clip, SAMPLING_RATE, subtype="PCM_16")
    return root


def train_on(noise: Path, output: Path, *more: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the hits among 12 test clips of each fold: of the selected epoch `(4,)`, and of all epochs `(4, 12)`."""
    settings = ["--num_train_epochs", "12", "--learning_rate", "1e-2", "--metric_for_best_model", "accuracy"]
    results = run(flags(noise, output, "mlp", *settings, "--folds", "0", "1", "2", "3", *more))
    epochs = []
    for fold in results["folds"]:
        history = [json.loads(line) for line in (output / fold / "history.jsonl").read_text().splitlines()]
        key = "test_accuracy" if "--watch_test" in more else "eval_accuracy"
        epochs.append([entry[key] for entry in history if key in entry])
    picked = [scores["test"]["accuracy"] for scores in results["folds"].values()]
    return 12 * np.array(picked), 12 * np.array(epochs)


def test_selection_on_the_test_clips_reports_the_luckiest_epoch(noise, tmp_path):
    """The best of 12 epochs on noise has 14 hits in 48 clips, where the mean of the epochs is 8, which is chance."""
    picked, epochs = train_on(noise, tmp_path, "--select_on", "test")
    assert epochs.shape == (4, 12)
    np.testing.assert_allclose(picked, epochs.max(axis=1))
    assert picked.sum() >= epochs.mean(axis=1).sum() + 2


def test_selection_on_validation_clips_does_not_find_the_luckiest_epoch(noise, tmp_path):
    picked, epochs = train_on(noise, tmp_path, "--watch_test", "true")
    assert epochs.shape == (4, 12)
    assert picked.sum() <= epochs.max(axis=1).sum() - 2
