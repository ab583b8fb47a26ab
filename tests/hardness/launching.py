"""`recipes/train.py` in processes of its own, as users start it, and what its run folders hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from forks import Fork
from runner import TRAIN
from safetensors.torch import load_file

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
PYTHON = ()  # one process, without a launcher
HANG = 600  # seconds after which a process counts as one that will never end


def start(argv: list[str], launcher: tuple[str, ...] = PYTHON, **variables: str) -> subprocess.Popen | Fork:
    """A training under way, whose output is kept."""
    command, env = [*launcher, str(TRAIN), *argv], os.environ | variables
    if launcher is PYTHON:
        return Fork(command, env=env)
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(argv: list[str], launcher: tuple[str, ...] = PYTHON, **variables: str) -> tuple[int, str, str]:
    """Exit status and both outputs of a training that has ended."""
    process = start(argv, launcher, **variables)
    output = process.communicate(timeout=HANG)
    return process.returncode, *output


def outcome(folder: Path) -> dict:
    """Weights, scores and logits of a finished fold, to be compared bit by bit."""
    return {
        "weights": {name: tensor.tolist() for name, tensor in load_file(folder / "model.safetensors").items()},
        "results": json.loads((folder / "results.json").read_text()),
        "predictions": pq.read_table(folder / "predictions.parquet").to_pylist(),
    }
