"""A run on segments of recordings: trained without cutting them, with a recording on one side of each fold."""

import json

import numpy as np
import pyarrow.parquet as pq
import soundfile
from runner import run

from hf_vivae.annotations.segment import Annotation, Segment
from hf_vivae.annotations.write import write_annotation

RATE = 16000
PITCH = {"low": 200, "high": 900}


def test_segments_train_and_are_tested_by_recording(tmp_path):
    rng, (root, grids) = np.random.default_rng(0), (tmp_path / name for name in ("recordings", "grids"))
    root.mkdir()
    grids.mkdir()
    for number in range(4):
        labels = ["low", "high"] * 3
        pieces = [np.sin(2 * np.pi * PITCH[label] * np.arange(RATE // 2) / RATE) for label in labels]
        samples = 0.3 * np.concatenate(pieces) + 0.01 * rng.standard_normal(3 * RATE)
        soundfile.write(root / f"{number}.wav", samples, RATE)
        segments = tuple(Segment(i / 2 + 0.05, i / 2 + 0.45, label) for i, label in enumerate(labels))
        write_annotation(grids / f"{number}.TextGrid", Annotation(f"{number}.wav", segments, 3.0))
    results = run(
        ["--model", "mlp", "--data", "segments", "--data_dir", str(root), "--annotations", str(grids),
         "--num_train_epochs", "8", "--learning_rate", "1e-2", "--num_groups", "4", "--folds", "0",
         "--output_dir", str(tmp_path / "run"), "--use_cpu", "--disable_tqdm", "true"]
    )  # fmt: skip
    assert results["data"] == "segments"
    assert results["test"]["accuracy"] == 1.0
    for folder in (tmp_path / "run").glob("*-of-4"):
        record = json.loads((folder / "run.json").read_text())
        parts = {part: {file.partition("#t=")[0] for file in files} for part, files in record["fold"].items()}
        assert sorted(len(part) for part in parts.values()) == [1, 1, 2]
        assert len(set.union(*parts.values())) == 4
        rows = pq.read_table(folder / "predictions.parquet").to_pylist()
        assert {row["file"] for row in rows} >= set(record["fold"]["test"])
        assert len({row["digest"] for row in rows}) == len({row["file"] for row in rows})
