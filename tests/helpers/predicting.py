"""Helpers of the tests of `predict`: clips, a start of it in this process, and rows of its output."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
from tqdm import tqdm

from hf_vivae.inference.predict import PredictResult, ProcessShard, predict
from hf_vivae.inference.scorer import Scorer

SETTINGS = {"checkpoint": "a"}
ALONE = ProcessShard()


def sound(seed: int, rate: int = 16000, seconds: float | None = None) -> bytes:
    """Return a WAV of noise, by default of 0.1 to 1.5 s."""
    rng, file = np.random.default_rng(seed), io.BytesIO()
    length = rng.uniform(0.1, 1.5) if seconds is None else seconds
    soundfile.write(file, rng.uniform(-0.5, 0.5, int(rate * length)), rate, format="WAV")
    return file.getvalue()


def work(scorer: Scorer, shards, output: Path, share: ProcessShard = ALONE) -> PredictResult | None:
    with tqdm(disable=True) as bar:
        return predict(scorer, shards, output, SETTINGS, share, bar)


def rows(file: Path) -> list[dict]:
    if file.suffix == ".parquet" or file.is_dir():
        return pq.read_table(file).to_pylist()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))
