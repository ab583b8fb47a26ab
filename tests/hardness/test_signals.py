"""Runs that are killed or told to end: what they leave is resumed to the very weights of one that was left alone."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from launching import HANG, PYTHON, TORCHRUN, finish, outcome, start
from runner import flags
from safetensors import safe_open

from hf_vivae.training.fit import _checkpoints

KILLS = 20
# steps of milliseconds, and each of the many epochs writes a checkpoint: most of the time, some file is being written
CONFIG = ["--model_config", json.dumps({"num_samples": 2000, "hidden_sizes": [64]})]
SENTENCE = "ended by SIGTERM after step {}; repeat the command, and the run continues from there."


def long_run(corpus: Path, output: Path, epochs: int) -> list[str]:
    return flags(corpus, output, "mlp", *CONFIG, "--num_train_epochs", str(epochs), "--save_total_limit", "2")


def wait_for(condition, process: subprocess.Popen) -> None:
    """Until something is so, or the process has ended; a test that waits in vain is ended by `HANG`."""
    ends = time.monotonic() + HANG
    while not condition() and process.poll() is None:
        assert time.monotonic() < ends
        time.sleep(0.002)


def steps_saved(fold: Path) -> int:
    """Steps of the last checkpoint that is whole by the package's own rule."""
    whole = [path for path in _checkpoints(fold) if (path / "trainer_state.json").is_file()]
    return max((int(path.name.rpartition("-")[2]) for path in whole), default=0)


def check_whole(folder: Path) -> None:
    """Every file that has its final name can be read, but for checkpoints that the package takes for unfinished."""
    for file in (path for path in folder.rglob("*.json*") if "checkpoint-" not in str(path)):
        lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        assert all(isinstance(json.loads(line), dict) for line in lines), file
    for file in folder.rglob("*.parquet"):
        pq.read_table(file)
    for checkpoint in folder.rglob("checkpoint-*/trainer_state.json"):
        with safe_open(checkpoint.parent / "model.safetensors", "pt") as weights:
            assert weights.keys()


@pytest.mark.slow
def test_twenty_random_kills_change_nothing(tiny_vivae, tmp_path):
    """Each kill comes up to two seconds after the start of the training proper, in whatever is under way then."""
    epochs, rng = 400, np.random.default_rng(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    status, _, said = finish(long_run(tiny_vivae, whole, epochs))
    assert status == 0, said
    reached = []
    for _ in range(KILLS):
        before = (killed / "S01" / "run.json").stat().st_mtime_ns if (killed / "S01" / "run.json").exists() else 0
        process = start(long_run(tiny_vivae, killed, epochs))
        record = killed / "S01" / "run.json"
        wait_for(lambda: record.exists() and record.stat().st_mtime_ns > before, process)  # noqa: B023
        time.sleep(rng.uniform(0, 2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was under way"
        reached.append(steps_saved(killed / "S01"))
        check_whole(killed)
        assert not (killed / "S01" / "results.json").exists()
    print("steps of the checkpoint that each kill left:", reached)
    assert reached == sorted(reached), "nothing that was whole is lost"
    assert reached[-1] > 0
    status, _, said = finish(long_run(tiny_vivae, killed, epochs))
    assert status == 0, said
    assert outcome(killed / "S01") == outcome(whole / "S01")
    assert eval_scores(killed) == eval_scores(whole)


def eval_scores(folder: Path) -> list[tuple]:
    entries = [json.loads(line) for line in (folder / "S01" / "history.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["eval_loss"], entry["eval_uar"]) for entry in entries if "eval_loss" in entry]


@pytest.mark.parametrize("launcher", [PYTHON, pytest.param(TORCHRUN, marks=pytest.mark.slow)], ids=["one", "two"])
def test_sigterm_saves_and_leaves_a_run_that_resumes(launcher, tiny_vivae, tmp_path):
    """In the middle of an epoch, where no checkpoint would be written otherwise."""
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    more = ["--save_strategy", "no", "--load_best_model_at_end", "false", "--eval_strategy", "epoch"]
    epochs = 60
    process = start([*long_run(tiny_vivae, ended, epochs), *more], launcher)
    history = ended / "S01" / "history.jsonl"
    wait_for(lambda: history.exists() and history.read_text().count("\n") > 6, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=HANG)
    step = steps_saved(ended / "S01")
    assert step > 0, said
    assert SENTENCE.format(step) in said
    if launcher is PYTHON:
        assert process.returncode == 143
        assert SENTENCE.format(step) in said.splitlines(), "a line of its own; a progress bar may close behind it"
        assert "Traceback" not in said
    assert not json.loads((ended / "S01" / "run.json").read_text())["finished"]
    for unfinished in ("results.json", "predictions.parquet", "model.safetensors"):
        assert not (ended / "S01" / unfinished).exists(), "no clip was scored"
    for folder in (ended, whole):
        status, _, said = finish([*long_run(tiny_vivae, folder, epochs), *more], launcher)
        assert status == 0, said
    assert outcome(ended / "S01") == outcome(whole / "S01")
    assert eval_scores(ended) == eval_scores(whole)
