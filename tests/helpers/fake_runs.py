"""Run folders with predictions written by hand: what `evaluate.py` reads of them, without a training; their scores."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_vivae.corpus import EMOTIONS, INTENSITIES
from hf_vivae.evaluation.comparison import GroupScores, score_group
from hf_vivae.evaluation.runs import find_folders
from hf_vivae.evaluation.systems import join_folds
from hf_vivae.evaluation.tables import detail_tables, score_tables
from hf_vivae.files import write_json
from hf_vivae.reporting.tables import Table
from hf_vivae.run_folder import write_predictions
from hf_vivae.version import __version__

FOLDS = 3
SELECTED_ON_TEST = "epochs or settings are selected on the test clips"


def clips(count: int) -> list[dict[str, Any]]:
    """Clips of six speakers, six emotions and four intensities in turn."""
    rows = []
    for number in range(count):
        speaker, emotion, intensity = number % 6, number // 6 % 6, number // 36 % 4
        name = f"S{speaker + 1:02d}_{EMOTIONS[emotion]}_{INTENSITIES[intensity]}_{number:03d}.wav"
        row = {"file": name, "label": emotion, "speaker": f"S{speaker + 1:02d}", "intensity": INTENSITIES[intensity]}
        rows.append({**row, "duration": 0.4 + 0.01 * (number % 100)})
    return rows


def answer(rows: Sequence[dict[str, Any]], said: Sequence[int]) -> list[dict[str, Any]]:
    """The rows with logits that say these labels."""
    return [
        {**row, "logits": (4.0 * np.eye(len(EMOTIONS))[label]).tolist()} for row, label in zip(rows, said, strict=True)
    ]


def write_run(
    root: Path,
    model: str = "mlp",
    seed: int = 1,
    folds: Sequence[int] = range(FOLDS),
    count: int = 72,
    skill: float = 1.0,
    settings: dict[str, Any] | None = None,
    corpus: dict[str, Any] | None = None,
    rows: Sequence[dict[str, Any]] | None = None,
) -> list[Path]:
    """Finished run folders of a run, one for each fold; every third clip is tested in one of them.

    Args:
        root: what holds them.
        model: of the run; it and the seed decide the logits.
        seed: of the run.
        folds: numbers of the folds to write, counted from 0.
        count: clips of the corpus.
        skill: how far the logit of the right label is raised above noise.
        settings: arguments that differ from those of `_record`.
        corpus: entries of `run.json` on the corpus that differ.
        rows: clips in place of `clips(count)`, with logits where these shall be given.
    """
    rows = rows or clips(count)
    noise = np.random.default_rng([zlib.crc32(model.encode()), seed]).normal(size=(len(rows), len(EMOTIONS)))
    logits = noise + skill * np.eye(len(EMOTIONS))[[row["label"] for row in rows]]
    scored = [{"logits": scores.tolist(), **row} for row, scores in zip(rows, logits, strict=True)]
    return [_write_fold(root, fold, scored, _record(model, seed, len(rows), settings, corpus)) for fold in folds]


def _record(
    model: str, seed: int, count: int, settings: dict[str, Any] | None, corpus: dict[str, Any] | None
) -> dict[str, Any]:
    run = {"model": model, "recipe": "paper", "as_coded": [], "task": "emotion", "protocol": "speaker-k-fold"}
    run |= {"data": "synthetic", "data_dir": None, "select_on": "validation", "model_config": {}, "folds": None}
    training = {"learning_rate": 1e-3, "seed": seed, "data_seed": None, "run_name": None}
    for name, value in (settings or {}).items():
        (training if name in training else run)[name] = value
    return {
        "run": run,
        "training": training,
        "corpus": {"name": "synthetic", "clips": count, "digest": f"{count:016x}", "problems": [], **(corpus or {})},
        "environment": {"hf_vivae": __version__},
        "seconds": 1.0,
        "finished": True,
    }


def _write_fold(root: Path, number: int, rows: Sequence[dict[str, Any]], record: dict[str, Any]) -> Path:
    fold, folder = f"{number + 1}-of-{FOLDS}", root / f"{number + 1}-of-{FOLDS}"
    folder.mkdir(parents=True)
    on_test = record["run"]["select_on"] == "test"
    parts = ("test", "train" if on_test else "validation", "train")
    split = [{**row, "fold": fold, "split": parts[(place - number) % FOLDS]} for place, row in enumerate(rows)]
    record["training"]["output_dir"] = str(folder)
    write_json(folder / "run.json", {**record, "fold": {"test": [row["file"] for row in rows]}})
    write_predictions(folder, split)
    results = {
        "fold": fold,
        "of_folds": FOLDS,
        "labels": list(EMOTIONS),
        "selection": {"on": record["run"]["select_on"], "metric": "uar", "epoch": 2.0},
        "habits": [SELECTED_ON_TEST] if on_test else [],
    }
    write_json(folder / "results.json", results)
    return folder


def score(place: Path, baseline: str | None = None) -> GroupScores:
    """The only group below a folder."""
    (group,) = join_folds(find_folders([place])[0])
    return score_group(group, baseline, lambda: None)


def tables(group: GroupScores) -> dict[str, Table]:
    """By the stems of their files."""
    return {table.name.split("/")[1]: table for table in (*score_tables(group), *detail_tables(group))}
