"""Promises that only real processes can break: several at once, killed ones, and every way to start one."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from encoders import write_encoder
from forks import Fork, run_forked
from runner import TRAIN, encoder_flags, flags, run
from safetensors.torch import load_file
from tqdm import tqdm

from hf_vivae.cli_parser import run_script
from hf_vivae.validation import UserError

LAUNCHERS = {
    "accelerate": [sys.executable, "-m", "accelerate.commands.launch"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def launch(launcher: str, argv: list[str]) -> str:
    done = subprocess.run(
        [*LAUNCHERS[launcher], str(TRAIN), *argv], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux lists them")
def test_a_script_ends_without_threads_of_the_process_group(monkeypatch):
    """A thread that is left may abort the interpreter at its end, one time in ten."""

    def loops() -> int:
        return sum("gloo" in task.read_text() for task in Path("/proc/self/task").glob("*/comm"))

    def main(argv):
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        ring = [torch.distributed.group.WORLD]
        ring.append(ring)  # as a trainer holds its wrapped model
        torch.distributed.all_reduce(torch.ones(1))
        assert loops()

    monkeypatch.setattr("sys.path", [*sys.path])
    run_script(main)
    assert not torch.distributed.is_initialized()
    assert not loops()


def test_the_garbage_of_one_script_is_collected_after_the_next(monkeypatch):
    """`run_script` freezes modules, but only at its first call in a process."""

    class Ring:
        pass

    ring = Ring()
    ring.ring, collected = ring, weakref.ref(ring)
    del ring
    monkeypatch.setattr("sys.path", [*sys.path])
    run_script(lambda argv: None)
    gc.collect()
    assert collected() is None


def logits_by_file(folder: Path) -> dict[str, list[float]]:
    return {row["file"]: row["logits"] for row in pq.read_table(folder / "predictions.parquet").to_pylist()}


@pytest.mark.parametrize(
    ("launcher", "processes"), [("torchrun", 2), pytest.param("accelerate", 1, marks=pytest.mark.slow)]
)
def test_launched_processes_give_the_scores_of_one(launcher, processes, tiny_vivae, tmp_path):
    """The same 8 clips a step as 1 x 8 and 2 x 4; 12 test clips leave a last batch that the two share unevenly.

    The one process is no launcher's, and has the variables of accelerate's.
    """

    def argv(name: str, batch: int) -> list[str]:
        more = ["--per_device_train_batch_size", str(batch), "--per_device_eval_batch_size", "5", "--optim", "sgd"]
        return flags(tiny_vivae, tmp_path / name, "vit-32-30", *more, "--adam_l2", "false")

    run_forked([TRAIN, *argv("one", 8)], check=True, env=ENVIRONMENT | {"ACCELERATE_MIXED_PRECISION": "no"})
    printed = launch(launcher, argv("launched", 8 // processes))
    one, launched = (tmp_path / name / "S01" for name in ("one", "launched"))
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (one, launched))
    records = [json.loads((folder / "run.json").read_text()) for folder in (one, launched)]
    assert [record["processes"] for record in records] == [1, processes]
    cores = len(os.sched_getaffinity(0))
    threads = [record["environment"]["threads"] for record in records]
    assert threads == [cores, max(1, cores // processes)], "the launchers' one thread is not kept"
    for part in ("test", "validation", "train"):
        assert first[part]["confusion_matrix"] == second[part]["confusion_matrix"]
        assert first[part]["loss"] == pytest.approx(second[part]["loss"], abs=1e-4)
    ours, theirs = logits_by_file(one), logits_by_file(launched)
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(list(ours.values()), list(theirs.values()), atol=1e-4, rtol=1e-4)
    assert printed.count("leave-one-speaker-out, emotion") == 1, "one process prints"


@pytest.mark.slow
def test_two_processes_hear_the_augmented_clips_of_one(tiny_vivae, tmp_path):
    """Of unlike lengths and labels: without any one of these ways of training, scores differ by more than 0.5."""
    corpus = shutil.copytree(tiny_vivae, tmp_path / "corpus")
    for file in corpus.glob("full_set/S0[34]_[fp]*"):  # of two speakers, half of the labels
        file.unlink()
    encoder = write_encoder(tmp_path / "whisper", "whisper")
    augment = {"gain_db": 6, "time_masks": 1, "mel_masks": 1, "mixup": 0.3, "probability": 0.7}
    more = ["--augment", json.dumps(augment), "--class_weights", "balanced", "--select_on", "none"]
    more += ["--optim", "sgd", "--learning_rate", "0.1", "--head_learning_rate", "0.5"]
    more += ["--model_config", '{"head_dropout": 0.0}', "--train_sampling_strategy", "group_by_length"]
    more += ["--per_device_train_batch_size"]
    run(encoder_flags(corpus, encoder, tmp_path / "one", *more, "8"))
    launch("torchrun", encoder_flags(corpus, encoder, tmp_path / "two", *more, "4"))
    ours, theirs = (logits_by_file(tmp_path / folder / "S01") for folder in ("one", "two"))
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(list(ours.values()), list(theirs.values()), atol=1e-4, rtol=1e-4)


def test_a_killed_run_resumes_to_the_weights_of_one_never_killed(tiny_vivae, tmp_path):
    more = ["--num_train_epochs", "12", "--model_config", json.dumps({"num_samples": 2000, "hidden_sizes": [16]})]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_forked([TRAIN, *flags(tiny_vivae, whole, "mlp", *more)], check=True)
    argv = flags(tiny_vivae, killed, "mlp", *more)
    process = Fork([TRAIN, *argv])
    while process.poll() is None and not list(killed.glob("S01/checkpoint-*/trainer_state.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "killed in the middle, not after the end"
    assert not (killed / "S01" / "results.json").exists()
    run_forked([TRAIN, *argv], check=True)
    one, other = (load_file(folder / "S01" / "model.safetensors") for folder in (whole, killed))
    torch.testing.assert_close(other, one, atol=0, rtol=0)
    assert logits_by_file(whole / "S01") == logits_by_file(killed / "S01")
    histories = [(folder / "S01" / "history.jsonl").read_text().splitlines() for folder in (whole, killed)]
    ours, theirs = ([json.loads(line).get("eval_loss") for line in history] for history in histories)
    assert ours == theirs


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--model", "mlp", "--data", "synthetik"], "error: expected --data to be one of vivae, emogator, hub"),
        (["--model", "mlp", "--num_epochs", "2"], "error: unknown argument '--num_epochs'"),
        (
            ["--model", "facebook/hubert-base-ls960", "--data", "synthetic"],
            "error: 'facebook/hubert-base-ls960' is neither a folder nor in the cache, and HF_HUB_OFFLINE is set;",
        ),
    ],
)
def test_a_users_mistake_ends_in_one_sentence(argv, sentence, tmp_path):
    done = run_forked([TRAIN, *argv, "--output_dir", tmp_path])
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(sentence)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("rank", ["0", "1", "x"])
def test_every_process_says_what_is_wrong_on_a_line_of_its_own(rank, monkeypatch, capsys):
    """On a line of its own, not after a progress bar; one process may fail alone, such as on a full disk."""

    def main(argv):
        bar.update()
        raise UserError("expected room, found none; free some.")

    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("RANK", rank)
    with tqdm(total=2), tqdm(total=2, leave=False) as bar, pytest.raises(SystemExit):
        run_script(main)
    speaker = "" if rank == "0" else f"process {rank}: "
    printed = capsys.readouterr().err
    assert "1/2" in printed
    assert printed.splitlines()[-1] == f"{speaker}error: expected room, found none; free some."
